"""Stored outcomes as comparisons: one run's candidates against its base, engine by engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from evals.claims.records import Measurement
from evals.engine import EngineSpec, Frozen
from evals.errors import SamplesError, SuiteError
from evals.normalize import suite_score
from evals.samples import StoredSamples
from evals.scores import BenchmarkScore, Sample, SuiteScore
from evals.suite import Benchmark, Suite, load_suite, suite_names
from orchestrator.compare import Comparison, Side, all_stages, compare, correct, measurement_of
from orchestrator.errors import RunError
from orchestrator.plan.job import EvalJob
from orchestrator.settings import Settings
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
        key = job.engine.model_copy(update={"max_length": None}).digest
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
    made = []
    for job, outcome in result.evaluated:
        benchmark = definition(job.suite, job.benchmark)
        samples, unfit = _samples(job, outcome, home, contain)
        main = measurement_of(
            outcome.evaluation,
            benchmark,
            result.candidate.name,
            samples,
            protocol=Protocol.of(job),
            quantization=weights_quantization(job, result.candidate),
        )
        current = benchmark is not None and benchmark.digest == outcome.evaluation.benchmark_digest
        staged = all_stages(main, benchmark, samples) if benchmark is not None and current else (main,)
        made += [Side(measurement, samples, unfit=unfit) for measurement in staged]
    return made


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


def comparisons(
    base: CandidateResult,
    candidates: Sequence[CandidateResult],
    home: Path,
    *,
    force: bool = False,
    tried: int = 0,
) -> tuple[Comparison, ...]:
    """Candidates against a base; `tried` counts further candidates that the correction has to take into account."""
    suites = loaded_suites(n for r in (base, *candidates) for n in r.suites)
    named = {result.candidate.name: sides(result, home, contain=True) for result in candidates}
    against = sides(base, home, contain=True)
    require_fit(against, [side for group in named.values() for side in group])
    return compare(against, named, suites, force=force, other_candidates=tried)


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


def benchmark_scores(result: CandidateResult) -> tuple[BenchmarkScore, ...]:
    """The benchmarks of a result, in the plan's order."""
    return tuple(outcome.evaluation.result for _, outcome in result.evaluated)


def measurements(result: CandidateResult, settings: Settings) -> tuple[Measurement, ...]:
    """The measurements of a result, for verdicts on claims."""
    return tuple(side.measurement for side in sides(result, settings.home))
