"""Reference formulas that the tests compare `evals.stats` with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import scipy

from evals.stats import Delta, Documents, average_draws, delta_of, paired_draws
from evals.stats.resample import N_DRAWS


def average_delta(benchmarks: Sequence[Documents], n_draws: int = N_DRAWS, seed: int = 0) -> Delta:
    """The delta of the plain mean over several benchmarks, each document drawn within its subset."""
    return delta_of(average_draws([paired_draws(d, n_draws, seed) for d in benchmarks]))


def mcnemar_p(gained: int, lost: int) -> float:
    """p-value of the exact two-sided McNemar test; 1 if no document flipped."""
    if gained + lost == 0:
        return 1.0
    return float(scipy.stats.binomtest(gained, gained + lost, 0.5).pvalue)


def detectable_with(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference (a fraction) that McNemar's test detects on n documents of which a share flips.

    The sample-size formula of Connor (1987), solved for the difference. It cannot exceed the discordance; if even
    that would not be detected, the result is 1.
    """
    z_alpha, z_power = scipy.stats.norm.ppf(1 - alpha / 2), scipy.stats.norm.ppf(power)

    def excess(difference: float) -> float:
        spread = math.sqrt(max(0.0, discordance - difference**2))
        return float(difference * math.sqrt(n) - z_alpha * math.sqrt(discordance) - z_power * spread)

    if excess(discordance) < 0:
        return 1.0
    return float(scipy.optimize.brentq(excess, 0.0, discordance))
