"""Who can still be among the best of many candidates that answer the same questions, after a part of the questions.

The questions asked so far are a random sample without replacement from each of a few finite sets. What counts is the candidates' order
on *all* questions, so that only those not asked are unknown. A candidate's combined value is a weighted sum of means over the sets. Its
value on all questions is drawn many times, jointly with the others':

* The errors of all values are jointly normal by the central limit theorem for finite populations (Hajek 1960), with the covariance of
  the answers times 1 - n / N. They are drawn by multiplying the questions' deviations with random numbers (multiplier bootstrap; van der
  Vaart and Wellner 1996, section 2.9), the same numbers for all candidates, so that candidates who answer alike are compared as pairs. Student's
  t stands in for the normal distribution, since the covariance is estimated.
* A variance from a few questions is too small for some of many candidates. Each candidate's own part of it is taken to be at least the
  mean of all (as moderated variances are: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3); what is missing is drawn for each alone.
* The values are moved towards their mean by the share of their spread that is error (empirical Bayes: Efron and Morris 1973): of many
  candidates the best so far are among the luckiest.

In each draw some candidates are the best `keep`. The largest set leaves such that in at most a share `error_rate` of the draws *any* of
it is among the best: an error rate over all candidates together. Bounds over all pairs of candidates (Bonferroni; betting or
empirical Bernstein sequences) hold without these approximations, and let nobody leave who has been asked a few dozen questions: with 465
candidates each pair would have to be told apart at 0.05 / 465. `benchmarks/race_simulation.py` shows how often one of the best leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.errors import EvaluationError
from evals.stats.resample import Floats

N_DRAWS = 4000
# Values are compared after rounding, so that another machine's last bits change no decision.
_DECIMALS = 9
_MANY_QUESTIONS = 2048
_LEAST_KEPT = 0.05
"""Share of the spread of the values that is taken to be true at least."""


@dataclass(frozen=True)
class RaceProbe:
    """The candidates' answers to one set of questions."""

    values: Floats
    """Credits minus the base's, shape (candidates, questions asked)."""
    n_whole: int
    """Questions of the set."""
    weight: float
    """Weight of its mean in the combined value."""


@dataclass(frozen=True)
class RaceDecision:
    """One look at all candidates; every array has shape (candidates,)."""

    value: Floats
    """Combined value on the questions asked."""
    low: Floats
    """Lower ends of intervals of the values on all questions, which hold for all candidates together."""
    high: Floats
    """Upper ends of these intervals."""
    stderr: Floats
    """Standard errors of the values over samples of as many questions, without regard to how many there are."""
    chance: Floats
    """Share of the draws in which the candidate is among the best."""
    leaves: npt.NDArray[np.bool_]
    """Whether it leaves."""


def race_look(
    probes: Sequence[RaceProbe], *, keep: int, error_rate: float, n_draws: int = N_DRAWS, seed: int = 0
) -> RaceDecision:
    """Who leaves, so that with a probability of at most `error_rate` any of the `keep` best on all questions is among them."""
    if any(probe.values.shape[1] < min(2, probe.n_whole) for probe in probes):
        raise EvaluationError("A race needs two questions of each probe before the first look.")
    value = np.sum([probe.weight * probe.values.mean(axis=1) for probe in probes], axis=0)
    variances = [
        p.weight**2 * p.values.var(axis=1, ddof=1) / p.values.shape[1]
        for p in probes
        if p.values.shape[1] > 1
    ]
    stderr = np.sqrt(np.sum(variances, axis=0)) if variances else np.zeros(len(value))
    deviations = np.concatenate([_deviations(probe) for probe in probes], axis=1)
    freedom = max(1, sum(probe.values.shape[1] - 1 for probe in probes))
    deviations = _condensed(deviations)
    errors = _errors(deviations, freedom, n_draws, seed)
    half = _reach(errors, error_rate)
    n = len(value)
    if n <= keep:
        return RaceDecision(value, value - half, value + half, stderr, np.ones(n), np.zeros(n, dtype=bool))
    drawn = np.round(_shrunk(value, deviations) + errors, _DECIMALS)
    cut = -np.partition(-drawn, keep - 1, axis=1)[:, keep - 1]
    best = drawn >= cut[:, None]
    leaves = _leaving(best, error_rate)
    return RaceDecision(value, value - half, value + half, stderr, best.mean(axis=0), leaves)


def _deviations(probe: RaceProbe) -> Floats:
    """Deviations whose sum of squares is the variance of the weighted mean over the set, shape (candidates, questions asked)."""
    n = probe.values.shape[1]
    if n == 1:  # it is the only question of its set, so that the mean is known
        return np.zeros_like(probe.values)
    scale = probe.weight * math.sqrt(max(0.0, 1 - n / probe.n_whole) / (n * (n - 1)))
    deviations: Floats = scale * (probe.values - probe.values.mean(axis=1, keepdims=True))
    return deviations


def _condensed(deviations: Floats) -> Floats:
    """Deviations with the same covariances and at most as many columns as candidates, where there are very many questions.

    Random numbers are drawn for each column. The factor is Cholesky's, which is unique, so that another machine draws the same errors.
    """
    n_candidates, n_questions = deviations.shape
    if n_questions <= max(_MANY_QUESTIONS, n_candidates):
        return deviations
    covariance = deviations @ deviations.T
    # Candidates that answer alike make it singular.
    covariance[np.diag_indices(n_candidates)] += 1e-10 * max(float(np.trace(covariance)), 1e-30)
    return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


def _own_variances(deviations: Floats) -> Floats:
    """The variance of each value that is not that of the mean candidate, shape (candidates,)."""
    variances: Floats = ((deviations - deviations.mean(axis=0)) ** 2).sum(axis=1)
    return variances


def _shrunk(value: Floats, deviations: Floats) -> Floats:
    """The values, moved towards their mean by the share of their spread that is error."""
    spread = float(value.var(ddof=1))
    kept = max(_LEAST_KEPT, 1 - float(_own_variances(deviations).mean()) / spread) if spread > 0 else 1.0
    shrunk: Floats = value.mean() + kept * (value - value.mean())
    return shrunk


def _errors(deviations: Floats, freedom: int, n_draws: int, seed: int) -> Floats:
    """Joint errors of all candidates, shape (draws, candidates)."""
    rng = np.random.default_rng(seed)
    variances = _own_variances(deviations)
    errors = rng.standard_normal((n_draws, deviations.shape[1])) @ deviations.T
    errors += rng.standard_normal(errors.shape) * np.sqrt(np.maximum(0.0, variances.mean() - variances))
    errors *= np.sqrt(freedom / rng.chisquare(freedom, size=(n_draws, 1)))
    return errors


def _reach(errors: Floats, error_rate: float) -> Floats:
    """Half of each candidate's interval; all hold together."""
    scale = errors.std(axis=0)
    varies = scale > 0
    if not varies.any():
        return np.zeros(errors.shape[1])
    largest = (np.abs(errors[:, varies]) / scale[varies]).max(axis=1)
    reach: Floats = scale * float(np.quantile(largest, 1 - error_rate))
    return reach


def _leaving(best: npt.NDArray[np.bool_], error_rate: float) -> npt.NDArray[np.bool_]:
    """The largest set, beginning with those that are least often among the best, of which any is in at most this share of draws."""
    chance = best.mean(axis=0)
    leaves = np.zeros(best.shape[1], dtype=bool)
    any_best = np.zeros(best.shape[0], dtype=bool)
    order = np.argsort(chance, kind="stable")
    begin = 0
    while begin < len(order):
        # Candidates with the same chance leave together or stay together.
        end = begin
        while end < len(order) and chance[order[end]] == chance[order[begin]]:
            end += 1
        any_best |= best[:, order[begin:end]].any(axis=1)
        if any_best.mean() > error_rate:
            break
        leaves[order[begin:end]] = True
        begin = end
    return leaves
