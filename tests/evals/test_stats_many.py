"""Averages over benchmarks, corrections for many tests, and shrinkage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from evals.errors import EvaluationError
from evals.stats import (
    Documents,
    average_estimate,
    corrected,
    delta,
    expected_after_search,
    shrinkage,
)
from tests.support.paired_tables import table
from tests.support.stats_reference import average_delta


def test_averages_over_benchmarks() -> None:
    one = Documents((table([100, 20, 10, 70], 0.25, "x"),), pooled=True)
    two = Documents((table([30, 5, 5, 60], 0.0, "y"), table([10, 3, 0, 20], 0.5, "z")), pooled=False)
    parts, whole = [delta(one), delta(two)], average_delta([one, two])
    assert whole.delta_points == pytest.approx(np.mean([p.delta_points for p in parts]))
    assert whole.stderr_points == pytest.approx(math.hypot(*(p.stderr_points for p in parts)) / 2, rel=0.05)
    assert (whole.n, whole.gained, whole.lost) == (333, 28, 15)
    score = average_estimate([one, two])
    assert score.value == pytest.approx(whole.base)
    assert score.interval.holds(score.value)


def test_correction_is_holms() -> None:
    p_values = [0.01, None, 0.04, 0.03, math.nan, 0.2, 0.03]
    found = corrected(p_values)
    assert found[1] is None
    assert found[4] is None
    expected = multipletests([0.01, 0.04, 0.03, 0.2, 0.03], method="holm")[1]
    assert [p for p in found if p is not None] == pytest.approx(list(expected))
    assert corrected(p_values, others=3)[0] == pytest.approx(0.01 * 8)
    padded = corrected([*p_values, 1.0, 1.0, 1.0])
    assert corrected(p_values, others=3) == padded[: len(p_values)]
    assert corrected([]) == ()
    assert corrected([None], others=5) == (None,)


def test_correction_holds_back_a_sweep_without_effects() -> None:
    """466 layer paths, none of them any better: uncorrected some 20 would be called better."""
    p_values = [float(p) for p in np.random.default_rng(1).uniform(size=466)]
    assert sum(p < 0.05 for p in p_values) > 10
    assert sum(p < 0.05 for p in corrected(p_values) if p is not None) == 0


def test_shrinkage_of_the_best_of_many() -> None:
    """All luck: the best twenty of 500 keep nothing. All real: they keep everything."""
    rng = np.random.default_rng(3)
    true, noise = rng.normal(0, 1.0, 500), rng.normal(0, 1.0, (2, 500))
    best = np.argsort(-(true + noise[0]))[:20]
    half = shrinkage((true + noise[0])[best], (true + noise[1])[best])
    assert half.kept == pytest.approx(0.5, abs=0.15)
    assert half.kept_interval is not None
    assert half.kept_interval.holds(0.5)
    luck = shrinkage(np.sort(noise[0])[-20:], noise[1][:20])
    assert luck.kept == pytest.approx(0.0, abs=0.2)
    assert shrinkage([1.0, 2.0], [1.0, 2.0]).kept_interval is None
    assert shrinkage([0.0], [1.0]).kept is None
    with pytest.raises(EvaluationError, match="Shrinkage needs"):
        shrinkage([1.0], [])


def test_what_a_search_leads_one_to_expect() -> None:
    """The shrunk search deltas predict the confirmation set unseen, and their errors are right."""
    rng = np.random.default_rng(4)
    true = rng.normal(0.5, 1.0, 400)
    search, again = true + rng.normal(0, 1.0, 400), true + rng.normal(0, 1.0, 400)
    found = expected_after_search(search, [1.0] * 400)
    best = np.argsort(-search)[:40]
    assert np.mean([found[i].expected for i in best]) == pytest.approx(again[best].mean(), abs=0.4)
    assert found[0].weight == pytest.approx(0.5, abs=0.1)
    errors = [(true[i] - f.expected) / f.stderr for i, f in enumerate(found)]
    assert np.std(errors) == pytest.approx(1.0, abs=0.15)


def test_shrinkage_where_there_is_nothing_to_estimate() -> None:
    assert expected_after_search([], []) == ()
    only = expected_after_search([3.0], [1.0])[0]
    assert (only.expected, only.weight) == (3.0, 0.0)
    alike = expected_after_search([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert [s.expected for s in alike] == pytest.approx([1.0, 1.0, 1.0])
    exact = expected_after_search([1.0, 2.0, 9.0], [0.0, 0.0, 0.0])
    assert [s.expected for s in exact] == pytest.approx([1.0, 2.0, 9.0])
    with pytest.raises(EvaluationError, match="standard error"):
        expected_after_search([1.0], [-1.0])
