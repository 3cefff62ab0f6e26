"""Every rule that says better, worse or real keeps its error rate; small versions of `benchmarks/verdict_simulation.py`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.simulated_sweeps import draw_sweep, judge
from benchmarks.verdict_simulation import FAR_ABOVE, N_PATHS, NEAR_FLOOR, NOISES, null_scan, null_sweeps
from evals.probes import Finding
from evals.stats import delta
from evals.stats.resample import Floats
from evals.suite import Suite, load_suite
from tests.support.stats_reference import average_delta

SMOKE, V2 = load_suite("smoke"), load_suite("leaderboard-v2")
# Of n sweeps or scans, each with a probability of 5 %, more than this many are wrong with a probability below 1 in 1,000.
MOST = {200: 21, 40: 8, 30: 7, 20: 5}


@pytest.mark.parametrize(
    ("suite", "gaps", "n_sweeps", "n_candidates"),
    [
        pytest.param(SMOKE, NEAR_FLOOR, 200, 40, id="smoke, 40 candidates"),
        pytest.param(SMOKE, NEAR_FLOOR, 30, N_PATHS, id="smoke, 465 layer paths"),
        pytest.param(V2, NEAR_FLOOR, 40, 40, id="leaderboard-v2, near the floor"),
        pytest.param(V2, FAR_ABOVE, 40, 40, id="leaderboard-v2, far above it"),
        pytest.param(V2, NEAR_FLOOR, 200, 1, id="leaderboard-v2, one candidate"),
    ],
)
def test_sweeps_without_an_effect_call_nothing_better_or_worse(
    suite: Suite, gaps: Floats, n_sweeps: int, n_candidates: int
) -> None:
    now, _, contradicted = null_sweeps(suite, gaps, n_sweeps, n_candidates, seed=7)
    assert now <= MOST[n_sweeps]
    assert contradicted == 0


def test_candidates_that_are_worse_do_not_make_the_others_better() -> None:
    """32 of 40 truly worse: under a false discovery rate, as before, one of the other eight was called something too often."""
    effects = np.concatenate([np.full(32, -0.25), np.zeros(8)])
    now = former = 0
    for seed in range(20):
        found = judge(draw_sweep(SMOKE, NEAR_FLOOR, effects, np.random.default_rng([8, seed])), n_draws=300)
        assert (found.now[:32] <= 0).all()
        now += bool(found.now[32:].any())
        former += bool(found.former[32:].any())
    assert now <= MOST[20]
    assert former > now


def test_a_planted_effect_is_found() -> None:
    found = [
        judge(
            draw_sweep(V2, NEAR_FLOOR, np.array([0.08, *[0.0] * 9]), np.random.default_rng([9, n])),
            n_draws=300,
        )
        for n in range(4)
    ]
    assert all(f.now[0, -1] == 1 for f in found), "the average"
    assert all(f.now[0, 1] == 1 for f in found), "BBH"
    assert all((f.now[0] >= 0).all() for f in found)


def test_the_simulations_fast_deltas_are_the_products() -> None:
    sweep = draw_sweep(V2, NEAR_FLOOR, np.array([0.0, 0.05]), np.random.default_rng(3))
    for answers in sweep:
        deltas, _ = answers.shown()
        for k in (0, 1):
            assert delta(answers.documents(k), n_draws=100).delta_points == pytest.approx(deltas[k], abs=1e-9)
    mean = average_delta([answers.documents(1) for answers in sweep], n_draws=100)
    assert mean.delta_points == pytest.approx(np.mean([answers.shown()[0][1] for answers in sweep]))


@pytest.mark.parametrize("name", list(NOISES))
def test_scans_without_an_effect_call_nothing_real_or_worse(name: str) -> None:
    found = [null_scan(NOISES[name], np.random.default_rng([10, seed]))[0] for seed in range(40)]
    assert sum(Finding.REAL in findings for findings in found) <= MOST[40]
    assert sum(Finding.WORSE in findings for findings in found) <= MOST[40]


def test_a_planted_path_is_called_real() -> None:
    hits = [
        null_scan(NOISES["every item a little"], np.random.default_rng([11, n]), 0.06)[2] for n in range(10)
    ]
    assert sum(hits) >= 9
