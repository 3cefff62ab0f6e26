"""Two candidates side by side: subsets, question pairs and chart bars."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from evals.engine import Frozen
from evals.errors import EvaluationError
from evals.scores import Sample
from evals.stats import Delta, corrected, delta, documents
from evals.suite import Benchmark
from orchestrator.charts import DeltaBar
from orchestrator.compare import Comparison, Side
from orchestrator.compare.answers import Flip, Pair, paired


class SubsetRow(Frozen):
    """The comparison of candidate and base on one subset of a benchmark."""

    subset: str = Field(description="lm-eval task.")
    delta: Delta | None = Field(description="The difference; null if there is none.")
    p_corrected: float | None = Field(description="p-value corrected over the benchmark's subsets.")
    reason: str | None = Field(default=None, description="Why there is no difference; null if there is one.")


def subset_rows(benchmark: Benchmark, base: Side, candidate: Side) -> tuple[SubsetRow, ...]:
    """Compare the benchmark's subsets; p-values are corrected over all of them."""
    rows = [_subset(benchmark, subset.task, base, candidate) for subset in benchmark.subsets]
    adjusted = corrected([row.delta.p if row.delta else None for row in rows])
    return tuple(row.model_copy(update={"p_corrected": p}) for row, p in zip(rows, adjusted, strict=True))


def questions_of(
    base: Sequence[Sample],
    candidate: Sequence[Sample],
    subset: str | None = None,
    *,
    lower_is_better: bool = False,
) -> tuple[Pair, ...]:
    """The questions that both sides answered, of one subset or of all."""
    pairs = paired(tuple(base), tuple(candidate), lower_is_better=lower_is_better)
    return pairs if subset is None else tuple(p for p in pairs if p.base.subset == subset)


def counted(pairs: Sequence[Pair]) -> dict[Flip, int]:
    """Number of questions by flip."""
    counts = dict.fromkeys(Flip, 0)
    for pair in pairs:
        counts[pair.flip] += 1
    return counts


def bars(comparison: Comparison) -> tuple[DeltaBar, ...]:
    """The rows of a comparison as chart bars, the averages last."""
    return tuple(
        DeltaBar(
            benchmark=row.title,
            delta_points=row.delta.delta_points if row.delta else 0.0,
            low=row.delta.interval.low if row.delta else 0.0,
            high=row.delta.interval.high if row.delta else 0.0,
            significant=row.significant,
            incomparable=None if row.delta else "; ".join(row.refused)[:120] or "no scores",
            lower_is_better=row.lower_is_better,
        )
        for row in (*comparison.rows, *comparison.averages)
    )


def _subset(benchmark: Benchmark, task: str, base: Side, candidate: Side) -> SubsetRow:
    single = benchmark.model_copy(update={"subsets": (benchmark.subset(task),)})
    try:
        docs = documents([_of(base.samples, task), _of(candidate.samples, task)], single)
        return SubsetRow(subset=task, delta=delta(docs), p_corrected=None)
    except EvaluationError as error:
        return SubsetRow(subset=task, delta=None, p_corrected=None, reason=str(error))


def _of(samples: Sequence[Sample], task: str) -> tuple[Sample, ...]:
    return tuple(s for s in samples if s.subset == task)
