"""A benchmark of which less is better, such as perplexity: a negative difference is an improvement wherever it is judged."""

from __future__ import annotations

import pytest

from evals.normalize import suite_score
from evals.scores import BenchmarkScore
from evals.stats import Delta
from evals.suite import load_suite
from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.compare.verdict import Standing, standing


def row(points: float, *, lower: bool) -> ComparisonRow:
    return ComparisonRow(
        suite="s", benchmark="b", title="b", base=90.0, candidate=90.0 + points, lower_is_better=lower, p_corrected=0.001,
        delta=Delta.model_construct(delta_points=points, p=0.001),
    )  # fmt: skip


@pytest.mark.parametrize(("points", "lower", "verdict"), [
    (-3.0, True, "better"), (3.0, True, "worse"), (-3.0, False, "worse"), (3.0, False, "better"),
])  # fmt: skip
def test_the_direction_decides(points: float, lower: bool, verdict: str) -> None:
    judged = row(points, lower=lower)
    assert judged.verdict == verdict
    assert judged.improved is (verdict == "better")
    comparison = Comparison(base="base", candidate="c", rows=(judged,), averages=(), n_tests=1)
    assert standing(comparison) is Standing(verdict)


def test_a_suite_with_both_directions_has_no_average() -> None:
    suite = load_suite("smoke")
    mixed = suite.model_copy(
        update={
            "benchmarks": (
                suite.benchmarks[0],
                suite.benchmarks[1].model_copy(update={"lower_is_better": True}),
            )
        }
    )
    results = [
        BenchmarkScore(
            benchmark=b.name, title=b.title, metric="m", raw=0.5, normalized=50.0, n=9, partial=False, comparable_to_board=True
        )
        for b in mixed.benchmarks
    ]  # fmt: skip
    assert suite_score(mixed, results).average is None
    assert suite_score(mixed, results).partial_average is None
    plain = mixed.model_copy(update={"benchmarks": suite.benchmarks[:2]})
    assert suite_score(plain, results).average == 50.0
