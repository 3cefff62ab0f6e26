"""Who leaves a race, on answers whose whole is known."""

from __future__ import annotations

import numpy as np
import pytest

from evals.errors import EvaluationError
from evals.stats.race import RaceDecision, RaceProbe, race_look
from evals.stats.resample import Floats


def candidates(seed: int, true: Floats, n_questions: int, noise: float = 0.3) -> Floats:
    """Answers of candidates with these true values: a part that all share by question, and one of each candidate's own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.3, n_questions)
    answers: Floats = true[:, None] + shared + rng.normal(0, noise, (len(true), n_questions))
    return answers


def look_at(whole: Floats, n: int, keep: int = 3, n_draws: int = 4000) -> RaceDecision:
    probe = RaceProbe(values=whole[:, :n], n_whole=whole.shape[1], weight=1.0)
    return race_look([probe], keep=keep, error_rate=0.05, n_draws=n_draws)


def test_the_hopeless_leave_and_the_best_stay() -> None:
    true = np.array([0.0] * 5 + [-1.0] * 40)
    looked = look_at(candidates(0, true, 40), 10)
    assert not looked.leaves[:3].any()
    assert looked.leaves[5:].all()
    assert (looked.chance[5:] < 0.01).all()


def test_one_of_the_best_leaves_no_more_often_than_the_error_rate() -> None:
    """200 races of 60 candidates without a gap between the best and the others, questions drawn without replacement."""
    lost = 0
    for seed in range(200):
        true = np.random.default_rng(1000 + seed).normal(0, 0.2, 60)
        whole = candidates(seed, true, 36)
        best = np.argsort(-whole.mean(axis=1))[:3]
        lost += bool(look_at(whole, 9, n_draws=1000).leaves[best].any())
    print(lost)
    assert lost <= 20  # 10 are expected at most; more than 18 have a probability of 0.4 %


def test_after_all_questions_only_the_best_stay() -> None:
    whole = candidates(0, np.linspace(0, 1, 30), 20)
    looked = look_at(whole, 20)
    assert set(np.flatnonzero(~looked.leaves)) == set(np.argsort(-whole.mean(axis=1))[:3])
    assert np.allclose(looked.low, looked.value)


def test_equal_candidates_stay_together() -> None:
    whole = candidates(0, np.zeros(1), 32).repeat(12, axis=0)
    assert not look_at(whole, 8).leaves.any()


def test_no_more_candidates_than_are_kept_stay() -> None:
    assert not look_at(candidates(0, np.array([0.0, -5.0, -9.0]), 32), 8).leaves.any()


def test_intervals_hold_for_all_candidates_together() -> None:
    covered = 0
    for seed in range(200):
        whole = candidates(seed, np.random.default_rng(seed).normal(0, 1, 40), 36)
        looked = look_at(whole, 12, n_draws=1000)
        means = whole.mean(axis=1)
        covered += bool(((looked.low <= means) & (means <= looked.high)).all())
    assert covered >= 180


def test_probes_count_by_their_weight() -> None:
    good, bad = candidates(0, np.linspace(0, 3, 20), 32), candidates(1, np.linspace(3, 0, 20), 32)
    looked = race_look(
        [RaceProbe(good[:, :16], 32, 1.0), RaceProbe(bad[:, :16], 32, 0.1)], keep=2, error_rate=0.05
    )
    assert not looked.leaves[-2:].any()
    assert looked.leaves[:10].all()


def test_one_question_is_no_look() -> None:
    with pytest.raises(EvaluationError, match="two questions"):
        look_at(candidates(0, np.zeros(5), 32), 1)
