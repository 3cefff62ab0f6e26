"""Comparisons from stored outcomes: a run's candidates with its base, per engine."""

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
from evals.suite import Benchmark, Suite, suite_with
from orchestrator.compare import Comparison, Side, all_stages, compare, correct, measurement_of
from orchestrator.errors import RunError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.leaderboard import EvaluationRecord
from orchestrator.store.records import CandidateInRun, CandidateRecord, EvalOutcome, PlannedJob, Protocol
from recipes.demo import DEMO_NAMES, WEIGHTS_FROM
from recipes.origin import converted_from


class CandidateResult(Frozen):
    """One candidate's scores with one engine."""

    run_id: str = Field(description="Id of the run.")
    candidate: CandidateRecord = Field(description="The evaluated candidate.")
    engine: EngineSpec = Field(description="Engine of its evaluations.")
    evaluated: tuple[tuple[EvalJob, EvalOutcome], ...] = Field(
        description="Jobs with their outcomes, in the plan's order."
    )

    @property
    def engine_key(self) -> str:
        """Digest of the engine without its maximum sequence length, which may differ between suites."""
        return self.engine.digest_without_length

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites with scores, in order."""
        return tuple(dict.fromkeys(job.suite for job, _ in self.evaluated))

    def suite_score(self, suite: Suite) -> SuiteScore:
        """The score of one suite, as on the leaderboard."""
        return suite_score(suite, [o.evaluation.result for j, o in self.evaluated if j.suite == suite.name])

    def outcome(self, suite: str, benchmark: str) -> EvalOutcome | None:
        """The outcome of one benchmark; None if it has none."""
        outcomes = (o for j, o in self.evaluated if (j.suite, j.benchmark) == (suite, benchmark))
        return next(outcomes, None)


def results_of_run(store: Store, run_id: str) -> tuple[CandidateResult, ...]:
    """The stored scores of every candidate of a run, per engine."""
    return _results(store, run_id, store.candidates(run_id), store.run_jobs(run_id))


def results_of_candidate(store: Store, match: CandidateInRun) -> tuple[CandidateResult, ...]:
    """The stored scores of one candidate in one run, per engine."""
    candidate = match.candidate
    planned = store.run_jobs(match.run_id, candidate=candidate.position)
    return _results(store, match.run_id, (candidate,), planned)


def result_of_candidate(
    store: Store,
    run_id: str,
    candidate: CandidateRecord,
    engine_key: str,
    jobs: Collection[str] | None = None,
) -> CandidateResult | None:
    """A candidate's scores with one engine of a run, optionally of some jobs only; None if it has none."""
    planned = store.run_jobs(run_id, candidate=candidate.position)
    if jobs is not None:
        planned = tuple(item for item in planned if item.job.digest in jobs)
    results = _results(store, run_id, (candidate,), planned)
    return next((result for result in results if result.engine_key == engine_key), None)


def _results(
    store: Store, run_id: str, candidates: Sequence[CandidateRecord], planned: Sequence[PlannedJob]
) -> tuple[CandidateResult, ...]:
    """Results by engine, ignoring its maximum sequence length, in the order of the jobs; then by candidate.

    Probe outcomes are left out: they screen layer paths and are not scores.
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
    """Each benchmark's measurement with its samples, at every scoring stage that it has.

    Raises SamplesError if samples are missing, altered or unreadable; with `contain`, the side is unfit.
    """
    return [
        side
        for job, outcome in result.evaluated
        for side in _stages(job, outcome, result.candidate, home, contain)
    ]


def _stages(
    job: EvalJob,
    outcome: EvalOutcome,
    candidate: CandidateRecord,
    home: Path,
    contain: bool,
    with_interval: bool = True,
) -> tuple[Side, ...]:
    """The sides of one evaluation at every scoring stage that it has, the main stage first."""
    benchmark = definition(job.suite, job.benchmark, job.benchmark_digest)
    samples, unfit = _samples(job, outcome, home, contain)
    main = measurement_of(
        outcome.evaluation,
        benchmark,
        candidate.name,
        samples,
        protocol=Protocol.of(job),
        quantization=weights_quantization(job, candidate),
        with_interval=with_interval,
    )
    current = benchmark is not None and benchmark.digest == outcome.evaluation.benchmark_digest
    staged = (
        all_stages(main, benchmark, samples, with_interval=with_interval)
        if benchmark is not None and current
        else (main,)
    )
    return tuple(Side(measurement, samples, unfit=unfit) for measurement in staged)


class SideReader:
    """Read results as sides for comparisons, with an LRU cache of `kept` evaluations; thread-safe.

    The measurements' own intervals are left unknown: a comparison does not take them.

    An evaluation whose samples cannot be read is unfit and is not cached: its file may return.
    """

    def __init__(self, home: Path, kept: int) -> None:
        self._home = home
        self._most = kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, str], tuple[Side, ...]] = OrderedDict()

    def sides(self, result: CandidateResult) -> list[Side]:
        """The sides of a result; those with missing, altered or unreadable samples are unfit."""
        return [side for job, outcome in result.evaluated for side in self._stages(result, job, outcome)]

    def _stages(self, result: CandidateResult, job: EvalJob, outcome: EvalOutcome) -> tuple[Side, ...]:
        # Runs and candidates can share an evaluation but differ in name and origin.
        key = (result.run_id, result.candidate.position, job.digest)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        stages = _stages(job, outcome, result.candidate, self._home, contain=True, with_interval=False)
        if not any(side.unfit for side in stages):
            with self._lock:
                self._kept[key] = stages
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return stages


def weights_quantization(job: EvalJob, candidate: CandidateRecord) -> str | None:
    """Quantization of the weights, or of those they were converted from; None if unknown."""
    if job.engine.quantization is not None:
        return job.engine.quantization
    recorded = converted_from(candidate.made_from)
    if recorded is not None:
        return recorded
    # Candidates of earlier versions, and layer paths, do not list their sources.
    # A live merge replaces the weights of the checkpoint at its place.
    opened = "" if job.live_merge else job.place.name or ""
    sources = f"{opened} {candidate.recipe or ''}"
    return (
        WEIGHTS_FROM
        if any(re.search(rf"(?<![\w/.-]){re.escape(n)}(?![\w.-])", sources) for n in DEMO_NAMES)
        else None
    )


def definition(suite: str, benchmark: str, digest: str = "") -> Benchmark | None:
    """The definition of a benchmark with this digest, else the current one; None if it no longer exists."""
    try:
        return suite_with(suite, benchmark, digest).benchmark(benchmark)
    except SuiteError:
        return None


def loaded_suites(sides: Iterable[Side]) -> list[Suite]:
    """The suites of sides, each once and as the newest of its sides had it; unknown names are left out."""
    suites: dict[str, Suite] = {}
    for side in sides:
        name = side.suite
        if name is None:
            continue
        digest = side.definition or side.measurement.facts.get(Fact.DEFINITION) or ""
        try:
            suites.setdefault(name, suite_with(name, side.measurement.result.benchmark, digest))
        except SuiteError:
            continue
    return list(suites.values())


def stored_samples(job_digest: str, outcome: EvalOutcome | EvaluationRecord, home: Path) -> StoredSamples:
    """The reference to an outcome's samples file."""
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
    """Raise RunError if every side of a group is unfit; a single unfit side only refuses its own row."""
    for group in groups:
        if group and all(side.unfit for side in group):
            raise RunError(str(group[0].unfit))


def compare_sides(
    base: Sequence[Side], candidates: Mapping[str, Sequence[Side]], *, force: bool = False, tried: int = 0
) -> tuple[Comparison, ...]:
    """Compare named candidates with a base, each in the suites of either.

    Used by commands and pages. P-values are corrected for the given candidates and `tried` further ones.
    """
    uncorrected = [
        compare(base, {name: sides}, loaded_suites((*base, *sides)), force=force)[0]
        for name, sides in candidates.items()
    ]
    return correct(uncorrected, other_candidates=tried)


def comparisons(
    base: CandidateResult,
    candidates: Sequence[CandidateResult],
    home: Path,
    *,
    force: bool = False,
    tried: int = 0,
) -> tuple[Comparison, ...]:
    """Compare candidates with a base; `tried` is the number of further candidates to correct for."""
    named = {result.candidate.name: sides(result, home, contain=True) for result in candidates}
    base_sides = sides(base, home, contain=True)
    require_fit(base_sides, [side for group in named.values() for side in group])
    return compare_sides(base_sides, named, force=force, tried=tried)


def run_comparisons(
    results: Sequence[CandidateResult], home: Path, *, force: bool = False, tried: int = 0
) -> tuple[Comparison, ...]:
    """Compare all candidates of a run with its base, per engine, corrected over all of them and `tried` further ones by each engine."""
    uncorrected: list[Comparison] = []
    for engine in dict.fromkeys(result.engine for result in results):
        engine_results = [result for result in results if result.engine == engine]
        base = next((result for result in engine_results if result.candidate.is_base), None)
        candidates = [result for result in engine_results if not result.candidate.is_base]
        if base is not None and candidates:
            uncorrected += comparisons(base, candidates, home, force=force)
    engines = len({result.engine for result in results})
    return correct(uncorrected, other_candidates=tried * engines)


def benchmark_scores(result: CandidateResult) -> tuple[BenchmarkScore, ...]:
    """The benchmarks of a result, in the plan's order."""
    return tuple(outcome.evaluation.result for _, outcome in result.evaluated)
