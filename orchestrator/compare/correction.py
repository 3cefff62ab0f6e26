"""Holm correction of comparisons: one family of tests over all benchmarks and averages."""

from __future__ import annotations

from collections.abc import Sequence

from evals.stats import MarginTest, corrected, margin_test
from evals.stats.margins import with_corrected
from orchestrator.compare.comparison import Comparison, ComparisonRow


def correct(
    comparisons: Sequence[Comparison], *, other_candidates: int = 0, other_tests: int = 0
) -> tuple[Comparison, ...]:
    """Return the comparisons with p-values Holm-corrected over all their benchmarks and averages.

    `other_candidates` counts further candidates that were tried, each assumed to have as many tests as the
    candidate here with the most; `other_tests` counts further tests. Both are assumed to show no effect.
    """
    tested = [[row.delta.p if row.delta else None for row in (*c.rows, *c.averages)] for c in comparisons]
    counts = [sum(p is not None for p in p_values) for p_values in tested]
    n_other_tests = other_tests + other_candidates * max(counts, default=0)
    adjusted = iter(corrected([p for p_values in tested for p in p_values], n_other_tests))

    def with_p(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
        return tuple(row.model_copy(update={"p_corrected": next(adjusted)}) for row in rows)

    return tuple(
        c.model_copy(
            update={
                "rows": with_p(c.rows),
                "averages": with_p(c.averages),
                "n_tests": sum(counts) + n_other_tests,
                "n_candidates": len(comparisons) + other_candidates,
            }
        )
        for c in comparisons
    )


def with_margin(comparisons: Sequence[Comparison], margin_points: float) -> tuple[Comparison, ...]:
    """Add the tests against a margin to every compared row, Holm-corrected over all rows of all comparisons as the others are.

    Tests of further candidates that only `n_tests` counts are assumed to show nothing.
    """
    rows = [row for c in comparisons for row in (*c.rows, *c.averages)]
    tests = [
        margin_test(row.delta, margin_points, lower_is_better=row.lower_is_better) if row.delta else None
        for row in rows
    ]
    counted = max((c.n_tests for c in comparisons), default=0)
    others = max(0, counted - sum(test is not None for test in tests))
    non_inferior = corrected([t.p_non_inferior if t is not None else None for t in tests], others)
    equivalent = corrected([t.p_equivalent if t is not None else None for t in tests], others)
    tested = iter(zip(tests, non_inferior, equivalent, strict=True))

    def rows_with_margin(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
        return tuple(_with_margin(row, *next(tested)) for row in rows)

    return tuple(
        c.model_copy(update={"rows": rows_with_margin(c.rows), "averages": rows_with_margin(c.averages)})
        for c in comparisons
    )


def _with_margin(
    row: ComparisonRow, test: MarginTest | None, p_non_inferior: float | None, p_equivalent: float | None
) -> ComparisonRow:
    if test is None or row.delta is None or p_non_inferior is None or p_equivalent is None:
        return row
    margin = with_corrected(
        test, row.delta, p_non_inferior, p_equivalent, lower_is_better=row.lower_is_better
    )
    return row.model_copy(update={"margin": margin})


def correction_text(n_tests: int, n_candidates: int) -> str:
    """A sentence on what the p-values are corrected for."""
    if n_tests <= 1:
        return "one test: nothing to correct"
    of = "1 candidate" if n_candidates == 1 else f"{n_candidates:,} candidates"
    return f"Holm, for {n_tests:,} tests: every benchmark and every average of {of}"
