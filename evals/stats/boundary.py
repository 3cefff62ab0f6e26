"""The significance level at which a sequence of looks at a growing sample is tested, so that the error rate holds at all times.

After a share t of the documents, a one-sided test rejects if its p-value is below `level(t)`, the upper tail of the normal
distribution beyond z(t), z(t)^2 = c^2 + SLOPE * log(1 / t). The standardized sum of independent differences is asymptotically
a Brownian motion B with B(t) / sqrt(t) compared with z(t). c is chosen so that the probability that this happens *at any time*
t in (0, 1] without an effect is the error rate; the looks may therefore be at any documents, and how many there are does not matter.

The crossing probability is that of a Brownian motion and a concave curve. Its density solves the Volterra equation of
Durbin (1985, J. Appl. Prob. 22, 99-122), which is solved here on a grid of log(1 / t). Constant z would be the boundary of Pocock
(1977), SLOPE = infinity tests only the whole. SLOPE = 6 gives away at most 6 points of the power of the fixed test and stops after 40 % of the
documents, in the median, where the whole benchmark shows a difference of five standard errors (`benchmarks/stopping_simulation.py`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import scipy

from evals.errors import EvaluationError

SLOPE = 6.0
# The grid of log(1 / t): what lies beyond the end has a probability below 1e-12 for every error rate of at most 0.25.
_LONGEST = 12.0
_POINTS = 600


@dataclass(frozen=True)
class Boundary:
    """The boundary for one side of a test with this error rate over all times; see `boundary`."""

    error_rate: float
    c: float

    def z(self, share: float) -> float:
        """Standard errors that a difference must exceed after this share of the documents, 0 < share <= 1."""
        if not 0 < share <= 1:
            raise EvaluationError(f"The share of the documents is {share}; it lies above 0 and up to 1.")
        return math.sqrt(self.c**2 - SLOPE * math.log(share))

    def level(self, share: float) -> float:
        """One-sided p-value that a difference must fall below after this share of the documents."""
        return float(scipy.stats.norm.sf(self.z(share)))

    @property
    def final_level(self) -> float:
        """One-sided p-value at which the whole benchmark is tested: the fixed test's, after all earlier looks are paid for."""
        return self.level(1.0)


@functools.lru_cache(maxsize=64)
def boundary(error_rate: float) -> Boundary:
    """The boundary that is crossed at any time with probability `error_rate` (one side) without an effect."""
    if not 1e-9 <= error_rate <= 0.25:
        raise EvaluationError(f"The error rate is {error_rate}; it lies between 1e-9 and 0.25 for one side.")
    c = scipy.optimize.brentq(lambda c: crossing_probability(c) - error_rate, 0.8, 8.0, xtol=1e-7)
    return Boundary(error_rate, float(c))


def crossing_probability(c: float) -> float:
    """Probability that a Brownian motion on (0, 1] exceeds sqrt(t) * z(t) at any time."""
    s = np.linspace(_LONGEST, 0.0, _POINTS)
    step = float(s[0] - s[1])
    t = np.exp(-s)
    z = np.sqrt(c**2 + SLOPE * s)
    curve = np.sqrt(t) * z
    slope = (z - SLOPE / z) / (2 * np.sqrt(t))
    # The tangent approximation, as a density in log t; exact for a straight line and too large for a concave curve.
    density = (z + SLOPE / z) / 2 * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for i in range(1, len(t)):
        gap = t[i] - t[:i]
        rise = (curve[i] - curve[:i]) / gap
        passed = np.exp(-(rise**2) * gap / 2) / np.sqrt(2 * math.pi * gap)
        density[i] -= t[i] * step * float(((rise - slope[i]) * passed * density[:i]).sum())
    return float(step * (density.sum() - density[-1] / 2))
