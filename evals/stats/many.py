"""Many comparisons at once: correction for how many were tried, and what is left of the best of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from evals.errors import EvaluationError
from evals.stats.estimates import Interval, Shrinkage, Shrunk
from evals.stats.resample import N_DRAWS


def corrected(p_values: Sequence[float | None], others: int = 0) -> tuple[float | None, ...]:
    """Holm (1979): where nothing is true, any corrected p is at most q with a probability of at most q, however the tests depend.

    That holds for the tests without an effect whatever the others show, so that a list of those that are better is no
    worse for candidates that are truly worse (a false discovery rate would let more pass). None and NaN mean that no test was made; they
    stay None and are not counted. `others` counts further tests of the family whose p-values are not at hand, as if they were 1.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None and not np.isnan(p)]
    adjusted: list[float | None] = [None] * len(p_values)
    if tested:
        found = np.array([p_values[i] for i in tested], dtype=float)
        order = np.argsort(found, kind="stable")
        steps = np.maximum.accumulate(found[order] * (len(found) + others - np.arange(len(found))))
        for place, p in zip(order, np.minimum(steps, 1.0), strict=True):
            adjusted[tested[place]] = float(p)
    return tuple(adjusted)


def shrinkage(search: Sequence[float], confirmation: Sequence[float], seed: int = 0) -> Shrinkage:
    """What share of the gains on a search set was kept on a disjoint confirmation set.

    The estimator is the ratio of the two means over the confirmed candidates, which does not blow up where
    one candidate's search gain is near 0; its interval resamples candidates. Candidates that share layers are
    not independent, so that the interval is, if anything, too narrow.
    """
    found, again = np.asarray(search, dtype=float), np.asarray(confirmation, dtype=float)
    if not len(found) or found.shape != again.shape or not np.isfinite([found, again]).all():
        raise EvaluationError(
            "Shrinkage needs a search delta and a confirmation delta for each of the candidates."
        )
    mean = float(found.mean())
    span = None
    if len(found) >= 3 and mean != 0:
        picks = np.random.default_rng(seed).integers(len(found), size=(N_DRAWS, len(found)))
        searched = found[picks].mean(axis=1)
        ratios = again[picks].mean(axis=1)[searched != 0] / searched[searched != 0]
        low, high = np.quantile(ratios, [0.025, 0.975])
        span = Interval(low=float(low), high=float(high))
    return Shrinkage(
        n=len(found),
        search_mean=mean,
        confirmation_mean=float(again.mean()),
        kept=float(again.mean()) / mean if mean != 0 else None,
        kept_interval=span,
    )


def expected_after_search(deltas: Sequence[float], stderrs: Sequence[float]) -> tuple[Shrunk, ...]:
    """What each search delta leads one to expect of a confirmation: empirical Bayes over all that was tried.

    True deltas are taken as normal around a common mean with variance tau^2, measured ones as normal around
    them with their own standard error. tau^2 is the estimate of Paule and Mandel (1982). The posterior mean
    of a candidate is its search delta moved towards the mean of all by stderr^2 / (stderr^2 + tau^2). Give it
    every candidate that was tried, not only the best: the spread of all says how much of it is luck.
    """
    found, errors = np.asarray(deltas, dtype=float), np.asarray(stderrs, dtype=float)
    if found.shape != errors.shape or not np.isfinite([found, errors]).all() or (errors < 0).any():
        raise EvaluationError(
            "Shrinkage needs a finite delta and a standard error of at least 0 for every candidate."
        )
    if not len(found):
        return ()
    variances = np.maximum(errors**2, 1e-18)
    tau2 = _paule_mandel(found, variances)
    weights = 1.0 / (variances + tau2)
    centre = float((weights * found).sum() / weights.sum())
    kept = tau2 / (tau2 + variances)
    return tuple(
        Shrunk(
            observed=float(d),
            expected=float(centre + k * (d - centre)),
            stderr=float(np.sqrt(k * v + (1 - k) ** 2 / weights.sum())),
            weight=float(k),
        )
        for d, k, v in zip(found, kept, variances, strict=True)
    )


def _paule_mandel(found: np.ndarray, variances: np.ndarray) -> float:
    """The variance between candidates that explains their weighted spread; 0 where chance alone does."""

    def excess(tau2: float) -> float:
        weights = 1.0 / (variances + tau2)
        centre = (weights * found).sum() / weights.sum()
        return float((weights * (found - centre) ** 2).sum() - (len(found) - 1))

    if len(found) < 2 or excess(0.0) <= 0:
        return 0.0
    high = float(found.var() * len(found)) + 1e-12
    return float(scipy.optimize.brentq(excess, 0.0, high)) if excess(high) < 0 else high
