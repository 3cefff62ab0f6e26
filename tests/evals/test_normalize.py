"""From scores to columns and averages: the formulas, and figures that the leaderboards published."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import SuiteError
from evals.normalize import benchmark_score, normalized, normalized_value, raw_value, suite_score
from evals.scores import Alarm, AlarmKind, BenchmarkScore, Score
from evals.suite import Benchmark, load_suite

SHARE = st.floats(0, 1)
BOUND = st.floats(0, 0.9)


def v2(name: str) -> Benchmark:
    return load_suite("leaderboard-v2").benchmark(name)


def scores_of(
    benchmark: Benchmark, values: list[float], metric: str | None = None, n: int | None = None
) -> list[Score]:
    return [
        Score(
            benchmark=benchmark.name,
            subset=subset.task,
            metric=metric or benchmark.metrics[0],
            value=value,
            stderr=None,
            n=n or subset.n_documents or 100,
            n_full=subset.n_documents or 100,
            lower_bound=subset.lower_bound,
            task_version="1",
        )
        for subset, value in zip(benchmark.subsets, values, strict=True)
    ]


def column(name: str, value: float, *, partial: bool = False) -> BenchmarkScore:
    return BenchmarkScore(
        benchmark=name,
        title=name,
        metric="acc",
        raw=0.5,
        normalized=value,
        n=1,
        partial=partial,
        comparable_to_board=True,
    )


@given(SHARE, BOUND)
def test_normalized_stays_between_nothing_and_all(raw: float, bound: float) -> None:
    value = normalized(raw, bound)
    assert 0.0 <= value <= 100.0 + 1e-9
    if raw < bound:
        assert value == 0.0


@given(SHARE, SHARE, BOUND)
def test_normalized_keeps_the_order(one: float, other: float, bound: float) -> None:
    low, high = sorted((one, other))
    assert normalized(low, bound) <= normalized(high, bound)


@given(BOUND)
def test_normalized_at_its_ends(bound: float) -> None:
    assert normalized(bound, bound) == 0.0
    assert normalized(1.0, bound) == pytest.approx(100.0)


@given(st.lists(SHARE, min_size=24, max_size=24))
def test_bbh_normalizes_each_subset_before_the_mean(values: list[float]) -> None:
    benchmark = v2("bbh")
    expected = fmean(
        100 * max(0.0, (v - 1 / s.choices) / (1 - 1 / s.choices))
        for v, s in zip(values, benchmark.subsets, strict=True)
        if s.choices
    )
    scores = scores_of(benchmark, values)
    assert normalized_value(benchmark, scores) == pytest.approx(expected, abs=1e-9)
    assert raw_value(benchmark, scores) == pytest.approx(fmean(values))


@given(st.lists(SHARE, min_size=3, max_size=3))
def test_gpqa_pools_before_it_normalizes(values: list[float]) -> None:
    benchmark = v2("gpqa")
    pooled = (198 * values[0] + 546 * values[1] + 448 * values[2]) / 1192
    scores = scores_of(benchmark, values)
    assert raw_value(benchmark, scores) == pytest.approx(pooled)
    assert normalized_value(benchmark, scores) == pytest.approx(
        100 * max(0.0, (pooled - 0.25) / 0.75), abs=1e-9
    )


@pytest.mark.parametrize(("right", "shown"), [(516, 38.97), (477, 36.03), (90, 6.80)])
def test_math_is_pooled_over_its_documents(right: int, shown: float) -> None:
    benchmark = v2("math")
    left, values = right, []
    for subset in benchmark.subsets:
        taken = min(left, subset.n_documents or 0)
        left -= taken
        values.append(taken / (subset.n_documents or 1))
    assert round(normalized_value(benchmark, scores_of(benchmark, values)), 2) == shown


def test_ifeval_is_the_mean_of_its_two_strict_accuracies() -> None:
    benchmark = v2("ifeval")
    scores = scores_of(benchmark, [0.6], "inst_level_strict_acc") + scores_of(
        benchmark, [0.5], "prompt_level_strict_acc"
    )
    assert normalized_value(benchmark, scores) == pytest.approx(55.0)
    assert benchmark_score(benchmark, scores).metric == "inst_level_strict_acc and prompt_level_strict_acc"


def test_v1_mmlu_does_not_weigh_its_subsets() -> None:
    benchmark = load_suite("leaderboard-v1").benchmark("mmlu")
    values = [1.0] + [0.0] * 56
    assert normalized_value(benchmark, scores_of(benchmark, values)) == pytest.approx(100 / 57)


@pytest.mark.parametrize(
    ("suite", "columns", "average"),
    [
        ("leaderboard-v2", [79.96, 58.77, 38.97, 17.90, 23.72, 49.20], 44.75),
        ("leaderboard-v2", [81.63, 57.33, 36.03, 17.45, 20.15, 49.05], 43.61),
        ("leaderboard-v1", [67.41, 84.54, 65.26, 55.62, 79.56, 54.66], 67.84),
        ("leaderboard-v1", [66.47, 85.54, 77.22, 57.46, 82.24, 62.93], 71.98),
    ],
)
def test_published_averages_follow(suite: str, columns: list[float], average: float) -> None:
    board = load_suite(suite)
    found = suite_score(board, [column(b.name, v) for b, v in zip(board.benchmarks, columns, strict=True)])
    assert found.average == pytest.approx(average, abs=0.006)
    assert found.average == found.partial_average
    assert found.missing == ()


def test_an_average_over_fewer_is_never_the_boards() -> None:
    board = load_suite("leaderboard-v2")
    whole = [column(b.name, 50.0) for b in board.benchmarks]
    fewer = suite_score(board, whole[:3] + whole[4:])
    assert (fewer.average, fewer.partial_average, fewer.missing) == (None, 50.0, ("gpqa",))
    assert suite_score(board, [*whole[:5], column("mmlu-pro", 50.0, partial=True)]).average is None
    assert suite_score(board, []).partial_average is None
    with pytest.raises(SuiteError, match="no benchmark 'arc'"):
        suite_score(board, [column("arc", 1.0)])


def test_partial_and_missing_subsets_make_a_partial_column() -> None:
    benchmark = v2("musr")
    assert not benchmark_score(benchmark, scores_of(benchmark, [0.5] * 3)).partial
    assert benchmark_score(benchmark, scores_of(benchmark, [0.5] * 3, n=20)).partial
    assert benchmark_score(benchmark, scores_of(benchmark, [0.5] * 3)[:2]).partial


def test_stage_a_of_math_is_refused_and_b_is_its_own_metric() -> None:
    benchmark = v2("math")
    scores = scores_of(benchmark, [0.4] * 7) + scores_of(benchmark, [0.3] * 7, "exact_match_original")
    assert benchmark_score(benchmark, scores).normalized == pytest.approx(40.0)
    assert benchmark_score(benchmark, scores, stage="B").normalized == pytest.approx(30.0)
    with pytest.raises(SuiteError, match="Stage A of 'math' cannot be restored"):
        benchmark_score(benchmark, scores, stage="A")


def test_remarks_and_alarms_travel_with_the_column() -> None:
    benchmark = v2("musr")
    alarm = Alarm(kind=AlarmKind.EMPTY, share=0.5, threshold=0.05)
    scores = [s.model_copy(update={"alarms": (alarm,)}) for s in scores_of(benchmark, [0.5] * 3)]
    found = benchmark_score(benchmark, scores, differences=["Other seeds."])
    assert found.alarms == (alarm,)
    assert (found.comparable_to_board, found.remark) == (False, "Other seeds.")


def test_a_benchmark_without_its_metric_is_refused() -> None:
    with pytest.raises(SuiteError, match="no score 'acc_norm' of benchmark 'musr'"):
        benchmark_score(v2("musr"), [])
