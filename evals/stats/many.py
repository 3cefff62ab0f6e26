"""Multiple comparisons: corrected p-values, and shrinkage of the best of many gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from evals.errors import EvaluationError
from evals.stats.estimates import Interval, Shrinkage, Shrunk
from evals.stats.resample import N_DRAWS


def corrected(p_values: Sequence[float | None], others: int = 0) -> tuple[float | None, ...]:
    """p-values corrected by Holm (1979), which bounds the family-wise error rate under any dependence of the tests.

    The bound holds for the tests without an effect whatever the others show; a false discovery rate would admit more of them.
    None and NaN mean that there was no test; they become None and are not counted. `others` is the number of further tests of
    the family whose p-values are not given; they count as 1.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None and not np.isnan(p)]
    adjusted: list[float | None] = [None] * len(p_values)
    if tested:
        values = np.array([p_values[i] for i in tested], dtype=float)
        order = np.argsort(values, kind="stable")
        steps = np.maximum.accumulate(values[order] * (len(values) + others - np.arange(len(values))))
        for place, p in zip(order, np.minimum(steps, 1.0), strict=True):
            adjusted[tested[place]] = float(p)
    return tuple(adjusted)


def shrinkage(search: Sequence[float], confirmation: Sequence[float], seed: int = 0) -> Shrinkage:
    """Share of the search set's gains that was kept on a disjoint confirmation set.

    The estimator is the ratio of the two means over the confirmed candidates, which is stable if one candidate's
    search gain is near 0; its interval resamples candidates. Candidates that share layers are not independent, so
    that the interval may be too narrow.
    """
    gains, confirmed = np.asarray(search, dtype=float), np.asarray(confirmation, dtype=float)
    if not len(gains) or gains.shape != confirmed.shape or not np.isfinite([gains, confirmed]).all():
        raise EvaluationError(
            "Shrinkage needs a search delta and a confirmation delta for each of the candidates."
        )
    mean = float(gains.mean())
    kept_interval = None
    if len(gains) >= 3 and mean != 0:
        picks = np.random.default_rng(seed).integers(len(gains), size=(N_DRAWS, len(gains)))
        searched = gains[picks].mean(axis=1)
        ratios = confirmed[picks].mean(axis=1)[searched != 0] / searched[searched != 0]
        low, high = np.quantile(ratios, [0.025, 0.975])
        kept_interval = Interval(low=float(low), high=float(high))
    return Shrinkage(
        n=len(gains),
        search_mean=mean,
        confirmation_mean=float(confirmed.mean()),
        kept=float(confirmed.mean()) / mean if mean != 0 else None,
        kept_interval=kept_interval,
    )


def expected_after_search(deltas: Sequence[float], stderrs: Sequence[float]) -> tuple[Shrunk, ...]:
    """Expected confirmation delta of each search delta: empirical Bayes over all candidates.

    True deltas are normal around a common mean with variance tau^2, measured deltas normal around them with their
    standard error. tau^2 is the estimate of Paule and Mandel (1982). The posterior mean of a candidate is its search
    delta moved towards the common mean by stderr^2 / (stderr^2 + tau^2). Pass every candidate that was tried, not
    only the best, because tau^2 is estimated from the spread of all.
    """
    values, errors = np.asarray(deltas, dtype=float), np.asarray(stderrs, dtype=float)
    if values.shape != errors.shape or not np.isfinite([values, errors]).all() or (errors < 0).any():
        raise EvaluationError(
            "Shrinkage needs a finite delta and a standard error of at least 0 for every candidate."
        )
    if not len(values):
        return ()
    variances = np.maximum(errors**2, 1e-18)
    tau2 = _paule_mandel(values, variances)
    weights = 1.0 / (variances + tau2)
    centre = float((weights * values).sum() / weights.sum())
    kept = tau2 / (tau2 + variances)
    return tuple(
        Shrunk(
            observed=float(d),
            expected=float(centre + k * (d - centre)),
            stderr=float(np.sqrt(k * v + (1 - k) ** 2 / weights.sum())),
            weight=float(k),
        )
        for d, k, v in zip(values, kept, variances, strict=True)
    )


def _paule_mandel(values: np.ndarray, variances: np.ndarray) -> float:
    """Between-candidate variance by Paule and Mandel (1982); 0 if the standard errors explain the spread."""

    def excess(tau2: float) -> float:
        weights = 1.0 / (variances + tau2)
        centre = (weights * values).sum() / weights.sum()
        return float((weights * (values - centre) ** 2).sum() - (len(values) - 1))

    if len(values) < 2 or excess(0.0) <= 0:
        return 0.0
    high = float(values.var() * len(values)) + 1e-12
    return float(scipy.optimize.brentq(excess, 0.0, high)) if excess(high) < 0 else high
