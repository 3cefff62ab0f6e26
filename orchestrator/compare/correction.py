"""Correction of comparisons for all that was tried: one family of tests, benchmarks and averages alike."""

from __future__ import annotations

from collections.abc import Sequence

from evals.stats import corrected
from orchestrator.compare.comparison import Comparison, ComparisonRow


def correct(
    comparisons: Sequence[Comparison], *, other_candidates: int = 0, other_tests: int = 0
) -> tuple[Comparison, ...]:
    """The comparisons with p-values corrected (Holm) over every benchmark and every average of all of them.

    `other_candidates` were tried beside them, each on as many benchmarks and averages as the candidate here with most of them;
    `other_tests` counts further tests. Both are taken as having shown nothing.
    """
    tested = [[row.delta.p if row.delta else None for row in (*c.rows, *c.averages)] for c in comparisons]
    counts = [sum(p is not None for p in p_values) for p_values in tested]
    others = other_tests + other_candidates * max(counts, default=0)
    adjusted = iter(corrected([p for p_values in tested for p in p_values], others))

    def with_p(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
        return tuple(row.model_copy(update={"p_corrected": next(adjusted)}) for row in rows)

    return tuple(
        c.model_copy(
            update={
                "rows": with_p(c.rows),
                "averages": with_p(c.averages),
                "n_tests": sum(counts) + others,
                "n_candidates": len(comparisons) + other_candidates,
            }
        )
        for c in comparisons
    )


def correction_text(n_tests: int, n_candidates: int) -> str:
    """What the corrected p-values are corrected for, in words."""
    if n_tests <= 1:
        return "one test: nothing to correct"
    of = "1 candidate" if n_candidates == 1 else f"{n_candidates:,} candidates"
    return f"Holm, for {n_tests:,} tests: every benchmark and every average of {of}"
