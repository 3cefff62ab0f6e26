"""A verdict never contradicts the number or the interval beside it: the test is of the score that is shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from evals.stats import Delta, Documents, delta
from evals.stats.resample import SubsetDocuments, measured
from evals.stats.sign_flip import distribution, swap_parts
from tests.support.paired_tables import table
from tests.support.stats_reference import average_delta, mcnemar_p


def shown(*subsets: SubsetDocuments, pooled: bool = False) -> Delta:
    return delta(Documents(subsets, pooled))


def agrees(found: Delta) -> bool:
    """Whether p, the sign and the interval say the same."""
    low, high = found.interval.low, found.interval.high
    leaves_out_zero = low > 0 or high < 0
    right_side = low > 0 if found.delta_points > 0 else high < 0
    return (found.p < 0.05) == leaves_out_zero and (not leaves_out_zero or right_side)


def test_flips_that_the_floor_hides_are_no_finding() -> None:
    """GPQA, 20.0 to 24.9 % raw, 25 % is guessing: 58 flips, all to the better, and the score is 0 before and after."""
    found = shown(table([1192 - 238 - 58, 58, 0, 238], 0.25), pooled=True)
    assert mcnemar_p(58, 0) < 1e-16
    assert (found.delta_points, found.p) == (0.0, 1.0)
    assert found.interval.low < 0 < found.interval.high


def test_more_gained_than_lost_and_a_lower_score_is_judged_by_the_score() -> None:
    """BBH, +46 −4: what was gained lies below the floor. Four losses are no finding, twenty are."""
    below = [table([148, 2, 0, 100], 0.5, f"below{i}") for i in range(23)]
    few = shown(*below, table([86, 0, 4, 160], 0.5, "above"))
    assert (few.gained, few.lost) == (46, 4)
    assert few.delta_points < 0
    assert few.p == pytest.approx(0.125, abs=0.03)
    many = shown(*below, table([70, 0, 20, 160], 0.5, "above"))
    assert many.p < 0.001
    assert many.interval.high < 0
    assert agrees(few)
    assert agrees(many)


def test_a_score_that_just_leaves_the_floor_may_be_chance() -> None:
    """15.0 to 26.0 % raw is a change of the answers; whether the shown score of 1.3 is above 0 is another question."""
    found = shown(table([1192 - 310, 131, 0, 179], 0.25), pooled=True)
    assert found.delta_points == pytest.approx(1.342, abs=1e-3)
    assert found.p > 0.2
    assert found.interval.low < 0 < found.interval.high


@pytest.mark.parametrize("right", [150, 240, 285, 297])
def test_a_delta_of_nothing_lies_in_its_interval(right: int) -> None:
    found = shown(table([1192 - right - 6, 3, 3, right], 0.25), pooled=True)
    assert found.interval.low <= found.delta_points <= found.interval.high
    assert agrees(found)


def test_a_detectable_difference_is_never_nothing() -> None:
    assert shown(table([942, 3, 2, 245], 0.25), pooled=True).detectable_points > 0.3


def test_the_whole_distribution_is_exact() -> None:
    """Against all 2^12 swaps of twelve documents, floor and weights included."""
    rng = np.random.default_rng(1)
    values = rng.choice([0.0, 0.5, 1.0], (12, 2, 2))
    weights = rng.integers(1, 4, (12, 2)).astype(float)
    subsets = (
        SubsetDocuments("a", 0.45, values[:5], weights[:5]),
        SubsetDocuments("b", 0.30, values[5:], weights[5:]),
    )
    for pooled in (True, False):
        deltas = []
        for swaps in itertools.product([False, True], repeat=12):
            swapped = np.where(np.array(swaps)[:, None, None], values[:, ::-1], values)
            parts = (
                SubsetDocuments("a", 0.45, swapped[:5], weights[:5]),
                SubsetDocuments("b", 0.30, swapped[5:], weights[5:]),
            )
            sides = measured(parts, pooled)
            deltas.append(sides[1] - sides[0])
        sizes = np.abs(deltas)
        found = distribution(swap_parts(subsets, pooled))
        for size in np.unique(np.round(sizes[sizes > 1e-9], 9)):
            assert found.p(float(size)) == pytest.approx((sizes >= size - 1e-8).mean(), abs=1e-9)


def test_pooled_right_or_wrong_answers_are_judged_by_mcnemar() -> None:
    for gained, lost in ((9, 2), (30, 12), (200, 160), (60, 90)):
        found = distribution(swap_parts((table([300, gained, lost, 900], 0.1),), pooled=True))
        scale = 100 / 0.9 / (1200 + gained + lost)
        assert found.p((gained - lost) * scale) == pytest.approx(mcnemar_p(gained, lost), rel=1e-6)


def test_many_subsets_are_convolved_far_into_the_tail() -> None:
    """24 equal subsets without a floor are one McNemar table: the grid gives its p-values down to 1e-12."""
    for gained, lost in ((17, 13), (18, 12), (19, 11)):
        subsets = tuple(table([100, gained, lost, 120], 0.0, f"s{i}") for i in range(24))
        found = distribution(swap_parts(subsets, pooled=False)).p((gained - lost) / 250 * 100)
        assert found == pytest.approx(mcnemar_p(24 * gained, 24 * lost), rel=0.05)


def test_scores_that_are_no_counts() -> None:
    """3,000 distinct differences, against random swaps."""
    rng = np.random.default_rng(3)
    values = rng.uniform(size=(3000, 2, 1))
    found = distribution(swap_parts((SubsetDocuments("s", 0.0, values, np.ones((3000, 1))),), pooled=True))
    change = values[:, 1, 0] - values[:, 0, 0]
    drawn = np.abs((rng.choice([-1.0, 1.0], (4000, 3000)) @ change) / 30)
    for share in (0.5, 0.1, 0.05):
        size = float(np.quantile(drawn, 1 - share))
        assert found.p(size) == pytest.approx(share, abs=0.02)


BOUNDS = [1 / k for k in (2, 2, 6, 3, 2, 11, 2, 5, 7, 3, 6, 2)]


def near_the_floor(rng: np.random.Generator) -> tuple[Documents, ...]:
    """Two benchmarks whose subsets lie around their lower bounds, and a candidate that changes each subset in its own way."""

    def subset(bound: float, size: int, name: str) -> SubsetDocuments:
        base = np.clip(bound + rng.normal(0, 0.04), 0.01, 0.9)
        up, down = rng.uniform(0, 0.12, 2)
        cells = np.array([(1 - base) * (1 - up), (1 - base) * up, base * down, base * (1 - down)])
        return table(rng.multinomial(size, cells), float(bound), name)

    return (
        Documents(tuple(subset(b, 60, f"s{i}") for i, b in enumerate(BOUNDS)), pooled=False),
        Documents((subset(0.25, 300, "gpqa"),), pooled=True),
    )


def test_no_verdict_contradicts_its_number_or_its_interval() -> None:
    """Flips alone (McNemar, as before) contradict the shown delta in one of ten significant runs here, and in up to half."""
    rng = np.random.default_rng(6)
    contradictions = significant = former = 0
    for _ in range(150):
        docs = near_the_floor(rng)
        found: Sequence[Delta] = [*(delta(d, n_draws=400) for d in docs), average_delta(docs, n_draws=400)]
        assert all(agrees(d) for d in found)
        for d in found[:2]:
            assert d.gained is not None
            assert d.lost is not None
            significant += d.p < 0.05
            if mcnemar_p(d.gained, d.lost) < 0.05:
                former += 1
                contradictions += math.copysign(1, d.gained - d.lost) * d.delta_points <= 0
    assert significant > 30
    assert contradictions >= 10, f"{contradictions} of {former}: these are the cases that the test is about"
