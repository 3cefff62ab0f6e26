"""Comparisons that may stop at any time: the boundary, what holds at the whole benchmark, error rates and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

from benchmarks.stopping_simulation import (
    drawer,
    effect_tally,
    exact_error,
    margin_tally,
    null_kinds,
    null_tally,
    part_of,
    path_of,
    slices,
    true_points,
)
from benchmarks.verdict_simulation import FAR_ABOVE, NEAR_FLOOR
from evals.errors import EvaluationError
from evals.stats import Interval, delta
from evals.stats.boundary import boundary, crossing_probability
from evals.stats.document_order import document_order
from evals.stats.paired import Documents
from evals.stats.stopping import (
    Aim,
    Decision,
    Rule,
    average_look,
    bootstrap_reach,
    decide,
    look,
    prefix,
    score_look,
)
from evals.suite import load_suite
from tests.support.paired_tables import table

V2 = load_suite("leaderboard-v2")
DIFFERENCE = Rule(aim=Aim.DIFFERENCE)


def test_the_boundary_holds_its_error_rate_on_brownian_motions() -> None:
    limit = boundary(0.025)
    assert crossing_probability(limit.c) == pytest.approx(0.025, abs=1e-5)
    t = np.arange(1, 1001) / 1000
    z = np.sqrt(limit.c**2 - 6.0 * np.log(t))
    crossed = 0
    for seed in range(8):
        steps = np.random.default_rng(seed).normal(size=(1000, 1000))
        crossed += int(
            (np.abs(np.cumsum(steps, axis=1) / np.sqrt(np.arange(1, 1001))) >= z).any(axis=1).sum()
        )
    # Two-sided 5 % in continuous time; a thousand looks are a little below it.
    assert 0.040 <= crossed / 8000 <= 0.053
    assert limit.level(0.1) < limit.level(0.5) < limit.level(1.0) == limit.final_level < 0.025
    with pytest.raises(EvaluationError, match="above 0 and up to 1"):
        limit.level(0.0)
    with pytest.raises(EvaluationError, match="error rate"):
        boundary(0.5)


def test_the_order_is_random_proportional_and_the_same_everywhere() -> None:
    keys = [("a", n) for n in range(300)] + [("b", n) for n in range(60)]
    order = document_order(keys, seed=5)
    assert sorted(order) == list(range(360))
    assert order[:6] == (348, 35, 61, 46, 284, 11)  # part of identity: another order is another measurement
    assert order != document_order(keys, seed=6)
    for n in (30, 120, 240):
        assert abs(sum(keys[i][0] == "b" for i in order[:n]) - n / 6) <= 1
    backwards = document_order(keys[::-1], seed=5)
    assert [keys[::-1][i] for i in backwards] == [keys[i] for i in order]
    first = [keys[document_order(keys, seed=s)[0]][1] for s in range(400)]
    assert abs(np.mean(first) - np.mean([n for _, n in keys])) < 40


def documents_of(name: str, effect: float = 0.03, seed: int = 1) -> Documents:
    return drawer(part_of(V2, name), FAR_ABOVE)(np.random.default_rng(seed), effect)[0]


@pytest.mark.parametrize("name", ["math", "ifeval", "bbh", "musr"])
def test_at_the_whole_benchmark_the_sequence_is_the_fixed_test(name: str) -> None:
    docs = documents_of(name)
    fixed = delta(docs)
    whole = look(prefix(docs, range(docs.n)), docs.n, DIFFERENCE)
    # The same difference and p-value, by the same draws; decided at the level that the looks before have left.
    assert (whole.delta_points, whole.p, whole.n) == (fixed.delta_points, fixed.p, fixed.n)
    assert whole.level == 2 * boundary(0.025).final_level == pytest.approx(0.0243, abs=2e-4)
    assert (whole.decision is not Decision.OPEN) == (fixed.p < whole.level)
    # Without looks before, nothing is paid for: interval, level and decision are the fixed test's too.
    only = look(docs, docs.n, DIFFERENCE.model_copy(update={"looks_before": False}))
    assert only.level == 0.05
    assert (only.interval.low, only.interval.high) == pytest.approx((fixed.interval.low, fixed.interval.high))
    assert (only.decision is not Decision.OPEN) == (fixed.p < 0.05)
    early = look(
        prefix(docs, range(docs.n // 2)), docs.n, DIFFERENCE.model_copy(update={"looks_before": False})
    )
    assert early.decision is Decision.OPEN


def test_right_or_wrong_is_the_exact_mcnemar_test_at_every_look() -> None:
    for gained, lost in ((40, 12), (30, 22), (25, 3)):
        docs = Documents((table((300, gained, lost, 200)),), pooled=True)
        mcnemar = scipy.stats.binomtest(gained, gained + lost).pvalue
        at = look(docs, 2 * docs.n, DIFFERENCE)
        assert at.p >= mcnemar - 1e-12
        # The boundary is on p: the interval excludes 0 where p is below the level of this share, and only there.
        assert (at.interval.low > 0) == (at.p < at.level) == (at.decision is Decision.BETTER)


def test_the_error_of_right_or_wrong_at_any_time_is_exactly_at_most_five_per_cent() -> None:
    """Over all signs of the discordant documents, looked at after each."""
    for n_discordant in (8, 10, 25, 60, 200):
        assert 0.0 < exact_error(n_discordant) <= 0.05
        assert exact_error(n_discordant, 0.01) <= 0.01


def test_the_average_is_looked_at_with_the_share_of_the_least_advanced_benchmark() -> None:
    parts = [documents_of("math"), documents_of("gpqa")]
    both = average_look([(prefix(parts[0], range(200)), parts[0].n), (parts[1], parts[1].n)], DIFFERENCE)
    assert both.level == DIFFERENCE.level(200 / parts[0].n)
    alone = [
        look(prefix(parts[0], range(200)), parts[0].n, DIFFERENCE),
        look(parts[1], parts[1].n, DIFFERENCE),
    ]
    assert both.delta_points == pytest.approx(np.mean([a.delta_points for a in alone]))
    assert both.n == sum(a.n for a in alone)


@pytest.mark.parametrize(
    ("aim", "span", "decision"),
    [
        (Aim.DIFFERENCE, (0.1, 5), Decision.BETTER),
        (Aim.DIFFERENCE, (-5, -0.1), Decision.WORSE),
        (Aim.DIFFERENCE, (-1, 1), Decision.OPEN),
        (Aim.NON_INFERIORITY, (-1.9, 9), Decision.NOT_WORSE),
        (Aim.NON_INFERIORITY, (-2.1, 9), Decision.OPEN),
        (Aim.NON_INFERIORITY, (-9, -2.1), Decision.WORSE),
        (Aim.SUPERIORITY, (2.1, 9), Decision.BETTER),
        (Aim.SUPERIORITY, (0, 1.9), Decision.NOT_BETTER),
        (Aim.SUPERIORITY, (0, 2.1), Decision.OPEN),
        (Aim.EQUIVALENCE, (-1.9, 1.9), Decision.EQUIVALENT),
        (Aim.EQUIVALENCE, (0.5, 2.5), Decision.OPEN),
        (Aim.EQUIVALENCE, (2.5, 4), Decision.BETTER),
        (Aim.EQUIVALENCE, (-4, -2.5), Decision.WORSE),
    ],
)
def test_decisions(aim: Aim, span: tuple[float, float], decision: Decision) -> None:
    rule = Rule(aim=aim, margin_points=0 if aim is Aim.DIFFERENCE else 2)
    assert decide(Interval(low=span[0], high=span[1]), rule) is decision


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="margin above 0"):
        Rule(aim=Aim.EQUIVALENCE)
    with pytest.raises(ValueError, match="has no margin"):
        Rule(aim=Aim.DIFFERENCE, margin_points=1)
    assert Rule(aim=Aim.DIFFERENCE, two_sided=False).level(0.5) > DIFFERENCE.level(0.5)


def test_the_bootstrap_is_inverted_far_out_too() -> None:
    errors = np.random.default_rng(0).normal(size=4000)
    errors -= errors.mean()
    assert bootstrap_reach(errors, 0.05) == pytest.approx(1.96, abs=0.06)
    assert bootstrap_reach(errors, 1e-6) == pytest.approx(float(scipy.stats.norm.isf(5e-7)), abs=0.1)
    assert bootstrap_reach(np.zeros(4000), 1e-6) == 0.0


def test_scores_have_an_interval_at_any_time() -> None:
    docs = documents_of("bbh")
    base = Documents(
        tuple(type(s)(s.name, s.lower_bound, s.values[:, :1], s.weights) for s in docs.subsets), docs.pooled
    )
    widths = []
    for share in (0.1, 0.4, 1.0):
        kept = [i for i, s in zip(_ranks(base), _shares(base), strict=True) if s < share]
        at = score_look(prefix(base, kept), docs.n)
        assert at.interval.low <= delta(docs).base <= at.interval.high
        widths.append(at.interval.high - at.interval.low)
    assert widths[0] > widths[1] > widths[2]


def _ranks(docs: Documents) -> list[int]:
    return list(range(docs.n))


def _shares(docs: Documents) -> list[float]:
    return [i / s.n for s in docs.subsets for i in range(s.n)]


def test_the_simulation_draws_what_it_says() -> None:
    """Its fast difference is the product's, and its true difference is the mean of what it draws."""
    docs = drawer(V2, NEAR_FLOOR)(np.random.default_rng(3), 0.05)
    path = path_of(docs, slices())
    assert path.delta[-1] == pytest.approx(np.mean([delta(d, n_draws=100).delta_points for d in docs]))
    for name in ("bbh", "ifeval", "gpqa"):
        part = part_of(V2, name)
        draw = drawer(part, np.array([0.25]))
        means = [path_of(draw(np.random.default_rng([5, i]), 0.08), (1.0,)).delta[0] for i in range(60)]
        error = np.std(means) / math.sqrt(len(means))
        assert np.mean(means) == pytest.approx(true_points(part, 0.08, 0.25), abs=4 * error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(null_kinds(V2)))
def test_without_an_effect_little_is_called_at_any_time(kind: str) -> None:
    # At 5 % more than 9 of 60 come with a probability of about 1 in 1,000; the whole 1,000 are the benchmark's.
    assert null_tally(null_kinds(V2)[kind], 60, seed=30).wrong <= 9


def test_a_candidate_that_is_worse_by_the_margin_is_seldom_called_not_worse_at_any_time() -> None:
    for aim in (Aim.NON_INFERIORITY, Aim.EQUIVALENCE):
        rule = Rule(aim=aim, margin_points=3, two_sided=False)
        assert margin_tally(part_of(V2, "gpqa"), rule, 100, seed=32).wrong <= 12


@pytest.mark.slow
def test_five_points_are_found_with_the_fixed_tests_power_on_fewer_documents() -> None:
    for name, least_saved in (("mmlu-pro", 0.8), ("bbh", 0.6)):
        tally = effect_tally(part_of(V2, name), 5.0, 30, seed=31)
        assert tally.decided == tally.fixed == 30
        assert tally.wrong == 0
        assert np.median(tally.saved) >= least_saved
        assert tally.uncovered <= 6  # of 30 at 5 %: more with a probability below 1 in 300
