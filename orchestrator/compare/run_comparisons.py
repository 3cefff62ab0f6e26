"""Stored outcomes as comparisons: one run's candidates against its base, engine by engine."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from evals.claims.facts import Fact
from evals.engine import EngineSpec, Frozen
from evals.errors import SamplesError, SuiteError
from evals.normalize import suite_score
from evals.samples import StoredSamples
from evals.scores import BenchmarkScore, Sample, SuiteScore
from evals.suite import Benchmark, Suite, load_suite, suite_names
from orchestrator.compare import Comparison, Side, all_stages, compare, correct, measurement_of
from orchestrator.errors import RunError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.records import (
    CandidateInRun,
    CandidateRecord,
    EvalOutcome,
    EvaluationRecord,
    PlannedJob,
    Protocol,
)
from recipes.demo import DEMO_NAMES, WEIGHTS_FROM


class CandidateResult(Frozen):
    """One candidate's scores with one engine."""

    run_id: str = Field(description="The run that it was found in.")
    candidate: CandidateRecord = Field(description="The candidate.")
    engine: EngineSpec = Field(description="The engine.")
    evaluated: tuple[tuple[EvalJob, EvalOutcome], ...] = Field(
        description="Its evaluations, in the plan's order."
    )

    @property
    def engine_key(self) -> str:
        """Names its engine in its run, whatever the longest sequence."""
        return self.engine.digest_without_length

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites that it has scores of, in order."""
        return tuple(dict.fromkeys(job.suite for job, _ in self.evaluated))

    def suite_score(self, suite: Suite) -> SuiteScore:
        """Its benchmarks of one suite as the leaderboard shows them."""
        return suite_score(suite, [o.evaluation.result for j, o in self.evaluated if j.suite == suite.name])

    def outcome(self, suite: str, benchmark: str) -> EvalOutcome | None:
        """The outcome of one benchmark."""
        found = (o for j, o in self.evaluated if (j.suite, j.benchmark) == (suite, benchmark))
        return next(found, None)


def results_of_run(store: Store, run_id: str) -> tuple[CandidateResult, ...]:
    """Every candidate's scores, per engine, as far as they are in the store."""
    return _results(store, run_id, store.candidates(run_id), store.run_jobs(run_id))


def results_of_candidate(store: Store, found: CandidateInRun) -> tuple[CandidateResult, ...]:
    """One candidate's scores in one run, per engine, as far as they are in the store."""
    candidate = found.candidate
    planned = store.run_jobs(found.run_id, candidate=candidate.position)
    return _results(store, found.run_id, (candidate,), planned)


def result_of_candidate(
    store: Store,
    run_id: str,
    candidate: CandidateRecord,
    engine_key: str,
    jobs: Collection[str] | None = None,
) -> CandidateResult | None:
    """A candidate's scores with one engine of a run, of the given jobs alone where some are; None where it has none."""
    planned = store.run_jobs(run_id, candidate=candidate.position)
    if jobs is not None:
        planned = tuple(item for item in planned if item.job.digest in jobs)
    results = _results(store, run_id, (candidate,), planned)
    return next((result for result in results if result.engine_key == engine_key), None)


def _results(
    store: Store, run_id: str, candidates: Sequence[CandidateRecord], planned: Sequence[PlannedJob]
) -> tuple[CandidateResult, ...]:
    """Engine by engine in the order of the jobs, candidate by candidate; suites may differ in the longest sequence.

    Probes screen layer paths and are no scores: they never come with them.
    """
    outcomes = store.outcomes(item.job.digest for item in planned if isinstance(item.job, EvalJob))
    engines: dict[str, EngineSpec] = {}
    evaluated: dict[tuple[str, int], list[tuple[EvalJob, EvalOutcome]]] = {}
    for item in planned:
        job, outcome = item.job, outcomes.get(item.job.digest)
        if not isinstance(job, EvalJob):
            continue
        key = job.engine.digest_without_length
        engines.setdefault(key, job.engine)
        if isinstance(outcome, EvalOutcome) and not job.is_probe:
            for position in item.candidates:
                evaluated.setdefault((key, position), []).append((job, outcome))
    return tuple(
        CandidateResult(run_id=run_id, candidate=candidate, engine=engine, evaluated=tuple(scores))
        for key, engine in engines.items()
        for candidate in candidates
        if (scores := evaluated.get((key, candidate.position)))
    )


def sides(result: CandidateResult, home: Path, *, contain: bool = False) -> list[Side]:
    """What is compared: each benchmark's measurement with its samples, at every scoring stage that it has.

    SamplesError where samples are gone, altered or unreadable; with `contain`, that side alone is unfit.
    """
    return [
        side
        for job, outcome in result.evaluated
        for side in _stages(job, outcome, result.candidate, home, contain)
    ]


def _stages(
    job: EvalJob, outcome: EvalOutcome, candidate: CandidateRecord, home: Path, contain: bool
) -> tuple[Side, ...]:
    """One evaluation at every scoring stage that it has, the main one first."""
    benchmark = definition(job.suite, job.benchmark)
    samples, unfit = _samples(job, outcome, home, contain)
    main = measurement_of(
        outcome.evaluation,
        benchmark,
        candidate.name,
        samples,
        protocol=Protocol.of(job),
        quantization=weights_quantization(job, candidate),
    )
    current = benchmark is not None and benchmark.digest == outcome.evaluation.benchmark_digest
    staged = all_stages(main, benchmark, samples) if benchmark is not None and current else (main,)
    return tuple(Side(measurement, samples, unfit=unfit) for measurement in staged)


class SideReader:
    """Reads results as sides, and keeps those of the `kept` evaluations that were asked for last; threads may share it.

    An evaluation whose samples cannot be read is unfit, and is read again the next time: its file may be back.
    """

    def __init__(self, home: Path, kept: int) -> None:
        self._home = home
        self._most = kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, str], tuple[Side, ...]] = OrderedDict()

    def sides(self, result: CandidateResult) -> list[Side]:
        """The sides of a result, unfit where their samples are gone, altered or unreadable."""
        return [side for job, outcome in result.evaluated for side in self._stages(result, job, outcome)]

    def _stages(self, result: CandidateResult, job: EvalJob, outcome: EvalOutcome) -> tuple[Side, ...]:
        # Runs and candidates that share an evaluation have names and origins of their own.
        key = (result.run_id, result.candidate.position, job.digest)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        stages = _stages(job, outcome, result.candidate, self._home, contain=True)
        if not any(side.unfit for side in stages):
            with self._lock:
                self._kept[key] = stages
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return stages


def weights_quantization(job: EvalJob, candidate: CandidateRecord) -> str | None:
    """How the weights are quantised, or were before they were written at a higher precision, as far as is known."""
    if job.engine.quantization is not None:
        return job.engine.quantization
    named = f"{job.place.name or ''} {candidate.recipe or ''}"
    return (
        WEIGHTS_FROM
        if any(re.search(rf"(?<![\w/.-]){re.escape(n)}(?![\w.-])", named) for n in DEMO_NAMES)
        else None
    )


def definition(suite: str, benchmark: str) -> Benchmark | None:
    """Today's definition of a benchmark; None where there is none any more."""
    try:
        return load_suite(suite).benchmark(benchmark)
    except SuiteError:
        return None


def loaded_suites(names: Iterable[str]) -> list[Suite]:
    """Those of the named suites that there are, each once."""
    return [load_suite(name) for name in dict.fromkeys(names) if name in suite_names()]


def stored_samples(job_digest: str, outcome: EvalOutcome | EvaluationRecord, home: Path) -> StoredSamples:
    """The samples of an outcome, as the store refers to them."""
    return StoredSamples(home, outcome.samples_path, outcome.samples_sha256, f"job {job_digest}")


def _samples(
    job: EvalJob, outcome: EvalOutcome, home: Path, contain: bool
) -> tuple[tuple[Sample, ...], str | None]:
    try:
        return stored_samples(job.digest, outcome, home).read(), None
    except SamplesError as error:
        if not contain:
            raise
        return (), str(error)


def require_fit(*groups: Sequence[Side]) -> None:
    """RunError where nothing is left of a group: a bad file is the reason of its own row, of everything it is an error."""
    for group in groups:
        if group and all(side.unfit for side in group):
            raise RunError(str(group[0].unfit))


def compare_sides(
    base: Sequence[Side], candidates: Mapping[str, Sequence[Side]], *, force: bool = False, tried: int = 0
) -> tuple[Comparison, ...]:
    """Candidates by their names against a base, each in the suites that it and the base have.

    The one way from sides to comparisons, for commands and pages alike. Corrected for the candidates given and for `tried`
    further ones.
    """
    found = [
        compare(base, {name: sides}, loaded_suites(_suite(side) for side in (*base, *sides)), force=force)[0]
        for name, sides in candidates.items()
    ]
    return correct(found, other_candidates=tried)


def comparisons(
    base: CandidateResult,
    candidates: Sequence[CandidateResult],
    home: Path,
    *,
    force: bool = False,
    tried: int = 0,
) -> tuple[Comparison, ...]:
    """Candidates against a base; `tried` counts further candidates that the correction has to take into account."""
    named = {result.candidate.name: sides(result, home, contain=True) for result in candidates}
    against = sides(base, home, contain=True)
    require_fit(against, [side for group in named.values() for side in group])
    return compare_sides(against, named, force=force, tried=tried)


def run_comparisons(
    results: Sequence[CandidateResult], home: Path, *, force: bool = False
) -> tuple[Comparison, ...]:
    """All candidates of a run against its base, engine by engine, corrected for all of them together."""
    found: list[Comparison] = []
    for engine in dict.fromkeys(result.engine for result in results):
        ours = [result for result in results if result.engine == engine]
        base = next((result for result in ours if result.candidate.is_base), None)
        others = [result for result in ours if not result.candidate.is_base]
        if base is not None and others:
            found += comparisons(base, others, home, force=force)
    return correct(found)


def _suite(side: Side) -> str:
    return side.measurement.facts.known[Fact.SUITE]


def benchmark_scores(result: CandidateResult) -> tuple[BenchmarkScore, ...]:
    """The benchmarks of a result, in the plan's order."""
    return tuple(outcome.evaluation.result for _, outcome in result.evaluated)
