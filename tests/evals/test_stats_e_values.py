"""Exact e-processes and confidence sequences: expectation, error at any time, coverage at all times, the limit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from evals.errors import EvaluationError
from evals.stats import Interval, delta
from evals.stats.e_values import (
    bounded_sequence,
    discordant_e_value,
    discordant_interval,
    document_points,
    floored_interval,
)
from evals.stats.paired import Documents
from tests.support.paired_tables import table


@pytest.mark.parametrize("one_sided", [False, True])
def test_the_e_value_is_a_martingale_of_fair_signs(one_sided: bool) -> None:
    """Exactly, over all sequences of signs: its expectation is 1, one-sided too, and less where gains are rarer."""
    for n in (1, 5, 11):
        values = [discordant_e_value(k, n - k, one_sided=one_sided) * math.comb(n, k) for k in range(n + 1)]
        assert sum(values) / 2**n == pytest.approx(1.0)
        rarer = [v * 0.4**k * 0.6 ** (n - k) for k, v in enumerate(values)]
        assert not one_sided or sum(rarer) < 1


def test_the_error_at_any_time_is_at_most_five_per_cent_exactly() -> None:
    """By the distribution of the whole path of signs, stopped where the e-value reaches 20."""
    for one_sided in (False, True):
        alive, stopped = {(0, 0): 1.0}, 0.0
        for _ in range(300):
            after: dict[tuple[int, int], float] = {}
            for (gained, lost), chance in alive.items():
                for counts in ((gained + 1, lost), (gained, lost + 1)):
                    after[counts] = after.get(counts, 0.0) + chance / 2
            crossed = {c for c in after if discordant_e_value(*c, one_sided=one_sided) >= 20}
            stopped += sum(after[c] for c in crossed)
            alive = {c: p for c, p in after.items() if c not in crossed}
        assert 0.005 < stopped <= 0.05


def test_the_interval_of_the_share_is_the_e_values_inverse() -> None:
    for gained, lost in ((0, 0), (3, 0), (20, 5), (50, 48), (400, 300)):
        span = discordant_interval(gained, lost)
        assert (span.low <= 0.5 <= span.high) == (discordant_e_value(gained, lost) < 20)
    assert discordant_interval(0, 0) == Interval(low=0.0, high=1.0)
    with pytest.raises(EvaluationError, match="at least 0"):
        discordant_e_value(-1, 2)


def test_sequences_without_replacement_cover_the_mean_of_all_at_all_times_and_end_in_it() -> None:
    missed, wrong = 0, 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        values = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.06, 0.82, 0.12])
        truth = float(values.mean())
        sequence = bounded_sequence(rng.permutation(values), 300, (-1.0, 1.0), null=truth)
        misses = bool(((sequence.low > truth + 1e-9) | (sequence.high < truth - 1e-9)).any())
        missed += misses
        wrong += bool((sequence.e_value[:-1] >= 20).any())
        assert sequence.interval(300).low == pytest.approx(truth, abs=1e-9)
        assert sequence.interval(300).high == pytest.approx(truth, abs=1e-9)
        assert misses or (np.diff(sequence.high - sequence.low) <= 1e-9).all()
    assert max(missed, wrong) <= 13  # of 120 at 5 %: more with a probability below 1 in 200


def test_the_e_process_without_replacement_has_an_expectation_of_at_most_one() -> None:
    """Exactly, over all orders of six documents."""
    values = (1.0, 0.0, 0.5, -1.0, 0.0, 1.0)
    truth = sum(values) / 6
    paths = [
        bounded_sequence(np.array(p), 6, (-1.0, 1.0), null=truth).e_value
        for p in set(itertools.permutations(values))
    ]
    assert (np.mean(paths, axis=0) <= 1 + 1e-9).all()


def test_an_impossible_mean_has_infinite_evidence() -> None:
    sequence = bounded_sequence(np.ones(90), 100, (0.0, 1.0), null=0.5)
    assert sequence.e_value[-1] == math.inf
    assert sequence.interval(90).low >= 0.9
    with pytest.raises(EvaluationError, match="1 to 10 values"):
        bounded_sequence(np.ones(11), 10, (0.0, 1.0))


@pytest.mark.parametrize("pooled", [True, False])
def test_a_document_has_its_part_of_the_difference(pooled: bool) -> None:
    """Subset means of different sizes and lower bounds: the parts' mean is the shown difference above the floor."""
    subsets = (table((10, 9, 4, 40), 0.25, "a"), table((30, 20, 15, 100), 0.1, "b"))
    points, largest = document_points(subsets, pooled)
    together = np.concatenate(points)
    shown = delta(Documents(subsets, pooled), n_draws=100).delta_points
    assert together.mean() == pytest.approx(shown)
    assert np.abs(together).max() <= largest
    sequence = bounded_sequence(
        together[np.random.default_rng(0).permutation(len(together))], len(together), (-largest, largest)
    )
    assert sequence.interval(len(together)).low == pytest.approx(shown)


def test_the_floor_is_applied_to_both_ends() -> None:
    span = floored_interval(Interval(low=0.2, high=0.4), 0.25)
    assert (span.low, span.high) == pytest.approx((0.0, 20.0))
