"""The statistics: known values, degenerate cases, and coverage and power by simulation with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar

from evals.errors import EvaluationError
from evals.scores import Sample, Score
from evals.stats import (
    Documents,
    Interval,
    SignificanceTest,
    bootstrap_p,
    delta,
    detectable,
    documents,
    estimate,
    estimate_from_scores,
    flips,
    unpaired_delta,
)
from evals.stats.resample import SubsetDocuments, draws, interval, measured
from evals.suite import Aggregation, Benchmark, Dataset, Extraction, OutputKind
from evals.suite import Subset as SuiteSubset
from tests.support.paired_tables import table
from tests.support.stats_reference import detectable_with, mcnemar_p

# A cell of a paired table: neither right, only the candidate, only the base, both.
Cells = Sequence[float]


def benchmark(
    aggregation: Aggregation, metrics: tuple[str, ...] = ("acc",), choices: int | None = 4
) -> Benchmark:
    return Benchmark(
        name="b",
        title="B",
        tasks="b",
        shots=0,
        metrics=metrics,
        aggregation=aggregation,
        output=OutputKind.MULTIPLE_CHOICE,
        extraction=Extraction.CHOICE,
        dataset=Dataset(path="d"),
        subsets=(SuiteSubset(task="s1", choices=choices), SuiteSubset(task="s2", choices=2)),
    )


def sample(doc_id: int, value: float, subset: str = "s1", metrics: dict[str, float] | None = None) -> Sample:
    return Sample(
        benchmark="b",
        subset=subset,
        doc_id=doc_id,
        doc_hash=f"{doc_id:016x}",
        prompt_hash=f"{doc_id:016x}",
        target="A",
        response="A",
        metrics={"acc": value} if metrics is None else metrics,
        correct=0.0 if math.isnan(value) else value,
        weights={"inst": 2.0} if metrics else {},
    )


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (1, 1), (3, 0), (10, 4), (200, 160), (0, 40)])
def test_mcnemar_is_the_exact_one_of_statsmodels(gained: int, lost: int) -> None:
    expected = mcnemar([[5, gained], [lost, 7]], exact=True).pvalue
    assert mcnemar_p(gained, lost) == pytest.approx(expected)


def test_no_flips_is_no_evidence() -> None:
    found = delta(Documents((table([20, 0, 0, 20]),), pooled=True))
    assert (found.delta_points, found.p, found.gained, found.lost) == (0.0, 1.0, 0, 0)
    assert found.interval.low < 0 < found.interval.high, "40 questions cannot rule out a small difference"
    assert found.interval.high < 10


def test_all_flipped_and_all_equal() -> None:
    won = delta(Documents((table([0, 40, 0, 0]),), pooled=True))
    assert (won.delta_points, won.base, won.candidate, won.delta_percent) == (100.0, 0.0, 100.0, None)
    assert won.p == pytest.approx(2 * 0.5**40)
    same = estimate(Documents((table([0, 0, 0, 40]),), pooled=True))
    assert same.value == 100.0
    assert same.interval.high == 100.0
    assert 85 < same.interval.low < 100


def test_one_document() -> None:
    found = delta(Documents((table([0, 1, 0, 0]),), pooled=True))
    assert (found.n, found.p) == (1, 1.0)
    assert found.interval.low < 50


def test_per_cent_is_relative() -> None:
    found = delta(Documents((table([40, 20, 0, 40]),), pooled=True))
    assert found.delta_points == pytest.approx(20.0)
    assert found.delta_percent == pytest.approx(50.0)
    assert (found.test, found.gained, found.lost) == (SignificanceTest.SIGN_FLIP, 20, 0)


def test_subsets_are_normalised_before_the_mean_and_floored() -> None:
    """As the board does: a subset below chance counts as 0, it does not pull others down."""
    b = benchmark(Aggregation.SUBSET_MEAN_NORMALIZED)
    samples = [sample(i, float(i < 7)) for i in range(10)] + [
        sample(i, float(i < 4), "s2") for i in range(10)
    ]
    found = estimate(documents([samples], b))
    assert found.value == pytest.approx(((0.7 - 0.25) / 0.75 * 100 + 0.0) / 2)
    pooled = estimate(documents([samples], benchmark(Aggregation.POOLED_NORMALIZED)))
    # The lower bound of pooled documents is the mean over them, as for the score that is shown (evals.normalize).
    assert pooled.value == pytest.approx((0.55 - 0.375) / 0.625 * 100)
    assert estimate(documents([samples], benchmark(Aggregation.SUBSET_MEAN))).value == pytest.approx(55.0)


def test_metrics_over_items_are_weighted() -> None:
    """IFEval: the instruction metric counts instructions, the prompt metric prompts."""
    b = benchmark(Aggregation.METRIC_MEAN, ("prompt", "inst"))
    answers = [
        sample(0, 1.0, metrics={"prompt": 1.0, "inst": 1.0}),
        sample(1, 0.0, metrics={"prompt": 0.0, "inst": 0.5}),
    ]
    answers[1] = answers[1].model_copy(update={"weights": {"inst": 4.0}})
    found = estimate(documents([answers], b))
    assert found.value == pytest.approx(100 * (0.5 + (2 * 1.0 + 4 * 0.5) / 6) / 2)
    assert delta(documents([answers, answers], b)).test is SignificanceTest.SIGN_FLIP


def test_documents_are_paired_whatever_their_order() -> None:
    b = benchmark(Aggregation.POOLED)
    base = [sample(i, float(i % 2)) for i in range(20)]
    candidate = [sample(i, float(i % 2)) for i in reversed(range(25))]
    found = delta(documents([base, candidate], b))
    assert (found.n, found.gained, found.lost) == (20, 0, 0)
    table_ = flips(documents([base, candidate], b))
    assert (table_.n, table_.both_right, table_.both_wrong) == (20, 10, 10)


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ([[], [sample(0, 1.0)]], "no samples"),
        ([[sample(0, 1.0)], [sample(1, 1.0)]], "no document in common"),
        ([[sample(0, 1.0), sample(0, 0.0)]], "answered twice"),
        ([[sample(0, math.nan)]], "evaluate it again"),
        ([[sample(0, 1.0, metrics={"f1": 1.0})]], "has no acc"),
        ([[sample(0, 1.0, "elsewhere")]], "elsewhere"),
    ],
)
def test_what_cannot_be_compared_says_so(sides: list[list[Sample]], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        documents(sides, benchmark(Aggregation.POOLED))


def test_the_same_seed_gives_the_same_interval() -> None:
    docs = Documents((table([30, 8, 5, 57], 0.25),), pooled=True)
    assert delta(docs, seed=3) == delta(docs, seed=3)
    assert delta(docs, seed=3).interval != delta(docs, seed=4).interval


def test_many_distinct_values_take_bounded_memory() -> None:
    """One row per document, as for mc2: drawn in parts."""
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(3000, 2, 1))
    found = delta(
        Documents((SubsetDocuments("s", 0.0, values, np.ones((3000, 1))),), pooled=True), n_draws=4000
    )
    exact = scipy_stats.ttest_rel(values[:, 1, 0], values[:, 0, 0]).confidence_interval()
    assert found.interval.low == pytest.approx(exact.low * 100, abs=0.1)
    assert found.interval.high == pytest.approx(exact.high * 100, abs=0.1)
    assert found.p == pytest.approx(scipy_stats.ttest_rel(values[:, 1, 0], values[:, 0, 0]).pvalue, abs=0.03)


def test_far_from_zero_the_p_value_is_not_stuck_at_the_number_of_draws() -> None:
    drawn = np.random.default_rng(0).normal(10.0, 1.0, 2000)
    assert bootstrap_p(drawn, 10.0) < 1e-15
    assert bootstrap_p(drawn, 0.0) == 1.0


LOWER_BOUNDS = [1 / k for k in (2, 2, 6, 3, 2, 11, 2, 5, 7, 3, 6, 2, 19, 5, 18, 6, 6, 2, 2, 4, 5, 7, 3, 2)]


def near_chance(gain: float, discordance: float) -> list[Cells]:
    """Cells of 24 subsets: the base at chance, the candidate above it by `gain`."""
    cells = []
    for bound in LOWER_BOUNDS:
        lost = (discordance - gain) / 2
        cells.append((1 - bound - (discordance - lost), discordance - lost, lost, bound - lost))
    return cells


@pytest.mark.parametrize(
    ("cells", "bounds", "size", "repeats"),
    [
        pytest.param([(0.35, 0.05, 0.05, 0.55)], [0.1], 40, 300, id="40-documents"),
        pytest.param([(0.3, 0.15, 0.05, 0.5)], [0.25], 200, 300, id="200-documents-better"),
        pytest.param([(0.995, 0.002, 0.001, 0.002)], [0.0], 1324, 300, id="hardly-any-right"),
        pytest.param([(0.45, 0.05, 0.04, 0.46)], [0.1], 12032, 200, id="12032-documents"),
        pytest.param(near_chance(0.0, 0.08), LOWER_BOUNDS, 20, 150, id="24-subsets-at-chance-20-each"),
        pytest.param(near_chance(0.08, 0.09), LOWER_BOUNDS, 250, 150, id="24-subsets-from-chance-up"),
    ],
)
def test_the_interval_covers(cells: list[Cells], bounds: list[float], size: int, repeats: int) -> None:
    """The 95 % interval of a delta holds the expected delta in 95 % of runs, within 3 standard errors."""
    rng = np.random.default_rng(11)
    many = np.stack([rng.multinomial(size, c, size=4000) / size for c in cells], axis=1)
    floor = np.array(bounds)
    base, candidate = many[..., 2] + many[..., 3], many[..., 1] + many[..., 3]
    shown = [np.maximum(0, (x - floor) / (1 - floor)).mean(axis=1).mean() * 100 for x in (base, candidate)]
    expected = shown[1] - shown[0]
    held = 0
    for _ in range(repeats):
        subsets = [
            table(rng.multinomial(size, c), b, f"s{i}")
            for i, (c, b) in enumerate(zip(cells, bounds, strict=True))
        ]
        held += delta(Documents(tuple(subsets), pooled=False), n_draws=1000).interval.holds(expected)
    share = held / repeats
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / repeats) <= share <= 0.998, f"covered {share:.3f}"


def test_the_plain_percentile_interval_would_not_do() -> None:
    """Why the draws are moved: with 24 subsets at chance, the plain interval misses the score itself."""
    rng = np.random.default_rng(5)
    subsets = []
    for i, bound in enumerate(LOWER_BOUNDS):
        right = (np.arange(100) < round(100 * bound)).astype(float)
        subsets.append(
            SubsetDocuments(f"s{i}", bound, rng.permutation(right)[:, None, None], np.ones((100, 1)))
        )
    value = measured(subsets, pooled=False)[0]
    resampled = np.mean(
        [
            np.maximum(
                0, (rng.binomial(100, s.values.mean(), 2000) / 100 - s.lower_bound) / (1 - s.lower_bound)
            )
            * 100
            for s in subsets
        ],
        axis=0,
    )
    assert interval(resampled).low > value
    assert interval(draws(subsets, pooled=False)[:, 0]).holds(value)


def test_a_score_near_zero_has_an_upper_end() -> None:
    """None of 300 right: the exact upper end is 1.2 %."""
    none_right = SubsetDocuments("s", 0.0, np.zeros((300, 1, 1)), np.ones((300, 1)))
    found = estimate(Documents((none_right,), pooled=True))
    assert found.interval.low == 0.0
    assert 0.8 < found.interval.high < 1.6


def test_the_test_is_not_trigger_happy() -> None:
    """Without a difference, at most 5 % of bootstrap tests say there is one (three standard errors aside)."""
    rng = np.random.default_rng(2)
    low = 0
    for _ in range(300):
        base = rng.beta(2, 2, size=80)
        values = np.stack([base, np.clip(base + rng.normal(0, 0.2, 80), 0, 1)], axis=1)
        values = np.where(rng.random((80, 1)) < 0.5, values, values[:, ::-1])
        docs = Documents((SubsetDocuments("s", 0.0, values[:, :, None], np.ones((80, 1))),), pooled=True)
        low += delta(docs, n_draws=1000).p < 0.05
    assert low / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_the_detectable_difference_is_found_in_four_of_five_runs() -> None:
    n, discordance = 400, 0.2
    difference = detectable_with(n, discordance)
    rng = np.random.default_rng(7)
    cells = [0.4, (discordance + difference) / 2, (discordance - difference) / 2, 0.4]
    runs = [
        delta(Documents((table(rng.multinomial(n, cells)),), pooled=True), n_draws=3000) for _ in range(300)
    ]
    found = sum(r.p < 0.05 for r in runs) / len(runs)
    assert 0.7 < found < 0.88
    assert np.mean([r.detectable_points for r in runs]) == pytest.approx(100 * difference, rel=0.08)


def test_detectable_at_the_ends() -> None:
    assert detectable(0.0) == 0.0
    assert detectable_with(3, 0.1) == 1.0
    assert detectable_with(10_000, 0.1) < detectable_with(1_000, 0.1) < 0.1


def score(subset: str, metric: str, value: float, n: int, stderr: float | None = None) -> Score:
    return Score(
        benchmark="b",
        subset=subset,
        metric=metric,
        value=value,
        stderr=stderr,
        n=n,
        n_full=n,
        lower_bound=0.0,
        task_version="1.0",
    )


def test_without_samples_the_score_has_an_interval_too() -> None:
    """From counts alone, right or wrong documents give the interval that their samples would give."""
    b = benchmark(Aggregation.SUBSET_MEAN_NORMALIZED)
    samples = [sample(i, float(i < 140)) for i in range(250)] + [
        sample(i, float(i < 180), "s2") for i in range(250)
    ]
    with_samples = estimate(documents([samples], b))
    scores = [
        score("s1", "acc", 140 / 250, 250),
        score("s2", "acc", 180 / 250, 250),
        score("s2", "f1", 0.1, 250),
    ]
    without = estimate_from_scores(scores, b)
    assert without.value == pytest.approx(with_samples.value)
    assert without.stderr_points == pytest.approx(with_samples.stderr_points, rel=0.05)
    assert without.n == 500


def test_a_recorded_standard_error_is_used_where_documents_are_not_right_or_wrong() -> None:
    b = benchmark(Aggregation.POOLED, ("mc2",))
    found = estimate_from_scores([score("s1", "mc2", 0.55, 817, stderr=0.0151)], b)
    assert found.stderr_points == pytest.approx(1.51, rel=0.03)


def test_two_sets_of_scores_without_samples() -> None:
    b = benchmark(Aggregation.POOLED)
    found = unpaired_delta([score("s1", "acc", 0.5, 1000)], [score("s1", "acc", 0.6, 1000)], b)
    assert (found.test, found.gained, found.lost, found.n) == (SignificanceTest.UNPAIRED, None, None, 1000)
    assert found.delta_points == pytest.approx(10.0)
    assert found.stderr_points == pytest.approx(100 * math.sqrt(0.25 / 1000 + 0.24 / 1000), rel=0.05)
    assert found.p < 1e-4
    with pytest.raises(EvaluationError, match="no acc among"):
        unpaired_delta([], [], b)


def test_an_interval_holds_its_ends_and_a_rounding() -> None:
    span = Interval(low=1.0, high=2.0)
    assert span.holds(1.0)
    assert span.holds(2.0)
    assert not span.holds(2.004)
    assert span.holds(2.004, widened_by=0.005)
