"""Marks the evaluations of a plan that may stop early, and orders benchmarks by the cheapest evidence."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

from pydantic import Field

from evals.engine import Frozen
from evals.stats.sequence import LookPlan
from evals.stats.stopping import Aim, Rule
from orchestrator.errors import SweepError
from orchestrator.plan.job import Decide, EvalJob
from orchestrator.plan.sweep import DecideEntry, SweepFile

BenchmarkName = tuple[str, str]
"""Suite and benchmark."""

DEFAULT_VARIANCE = 1200.0
"""Variance of one document's difference in points squared where nothing was measured: 12 % of the documents are answered differently."""


def look_plan(entry: DecideEntry, n_comparisons: int) -> LookPlan:
    """When each of `n_comparisons` is looked at; the error rate is shared equally, so that it holds for all of them together."""
    rule = Rule(
        aim=Aim.EQUIVALENCE if entry.margin else Aim.DIFFERENCE,
        margin_points=entry.margin,
        error_rate=entry.error_rate / max(1, n_comparisons),
    )
    return LookPlan(
        rule=rule, first_share=entry.smallest_share, slice_share=entry.slice, order_seed=entry.seed
    )


def decided(jobs: Sequence[tuple[bool, EvalJob]], entry: DecideEntry) -> list[EvalJob]:
    """The jobs, those of candidates with when they may stop early; each comes with whether it is the base's.

    A candidate's job stays whole if the base has no job with the same benchmark, settings and engine, and probes stay whole.
    """
    bases = {pair_key(job): job.digest for is_base, job in jobs if is_base}
    pairs = {
        job.digest: bases[key]
        for is_base, job in jobs
        if not is_base and not job.is_probe and (key := pair_key(job)) in bases and job.digest != bases[key]
    }
    plan = look_plan(entry, len(pairs))
    marked: dict[str, EvalJob] = {}
    before: dict[tuple[object, ...], str] = {}
    for _, job in sorted(jobs, key=lambda item: _place(item[1], entry.first)) if entry.leave else jobs:
        if job.digest in pairs and job.digest not in marked:
            chain = (job.weights_digest, job.layer_path, job.engine.digest_without_length)
            after = before.get(chain) if entry.leave else None
            decide = Decide(plan=plan, against=pairs[job.digest], after=after)
            marked[job.digest] = job.model_copy(update={"decide": decide})
            before[chain] = marked[job.digest].digest
    return [marked.get(job.digest, job) for _, job in jobs]


def _place(job: EvalJob, first: Sequence[str]) -> int:
    """Place of a benchmark in `first`, or behind all of these; sorting by it keeps the order of the others."""
    return first.index(job.benchmark) if job.benchmark in first else len(first)


def pair_key(job: EvalJob) -> tuple[object, ...]:
    """What a candidate's evaluation and the base's have in common if they may be compared."""
    return (
        job.suite,
        job.benchmark,
        job.benchmark_digest,
        job.dataset_digest,
        job.settings,
        job.scorer,
        job.engine,
    )


def check_first(file: SweepFile, benchmarks: Iterable[str]) -> None:
    """Raise SweepError if `decide.first` names a benchmark that the sweep does not have."""
    names = list(dict.fromkeys(benchmarks))
    for name in file.sweep.decide.first if file.sweep.decide else ():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}."
            raise SweepError(f"{file.place('decide', 'first')}: the sweep has no benchmark {name!r}; {hint}")


class Evidence(Frozen):
    """What is expected of one benchmark: how long a document takes and how much it tells."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    seconds_per_document: float | None = Field(description="Expected seconds; null if unknown.")
    variance: float = Field(
        description="Variance of one document's difference between candidate and base, in points squared."
    )
    measured: bool = Field(description="Whether the variance comes from comparisons in the store.")

    @property
    def information_per_s(self) -> float:
        """Information about a difference in points that a second of work brings: documents per second over the variance of one.

        The variance of a mean of n documents is variance / n, and its inverse is the Fisher information of n documents.
        """
        return 1.0 / (self.variance * self.seconds_per_document) if self.seconds_per_document else 0.0


def by_information(
    jobs: Iterable[EvalJob],
    seconds: Callable[[EvalJob], float | None],
    documents: Callable[[EvalJob], int | None],
    variances: Mapping[BenchmarkName, float],
) -> list[Evidence]:
    """The benchmarks of jobs, the most information per second first; of equal ones in the plan's order.

    `seconds` is the expected duration of a job, `documents` its number of documents, `variances` what earlier comparisons showed.
    """
    first: dict[BenchmarkName, EvalJob] = {}
    for job in jobs:
        first.setdefault((job.suite, job.benchmark), job)
    evidence = []
    for name, job in first.items():
        duration_s, n = seconds(job), documents(job)
        evidence.append(
            Evidence(
                suite=name[0],
                benchmark=name[1],
                seconds_per_document=duration_s / n if duration_s and n else None,
                variance=variances.get(name) or DEFAULT_VARIANCE,
                measured=bool(variances.get(name)),
            )
        )
    return sorted(evidence, key=lambda e: -e.information_per_s)


def benchmark_ranks(evidence: Sequence[Evidence], first: Sequence[str]) -> dict[BenchmarkName, int]:
    """The place of each benchmark: those named in `first` in its order, then the others in the order of the evidence."""

    def rank(place: int) -> tuple[int, int]:
        name = evidence[place].benchmark
        return (first.index(name), place) if name in first else (len(first), place)

    order = sorted(range(len(evidence)), key=rank)
    return {(evidence[p].suite, evidence[p].benchmark): number for number, p in enumerate(order)}
