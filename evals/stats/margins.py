"""Non-inferiority and equivalence of a candidate: is it not worse than the base by more than a margin, or different by less?

A difference that is not shown is not a proof of equality. Non-inferiority is shown if the lower end of the 95 % interval is above
minus the margin, a one-sided test at 2.5 % (ICH E9, 1998; ICH E10, 2000). Equivalence is shown by two one-sided tests at 5 %,
which is a 90 % interval between minus and plus the margin (Schuirmann 1987). The spread is the one behind the delta's interval,
paired or unpaired, by question or by cluster, so that the interval and these tests never contradict each other.
"""

from __future__ import annotations

from enum import StrEnum

import scipy
from pydantic import Field

from evals.engine import Frozen
from evals.stats.estimates import Delta

NON_INFERIOR_ALPHA = 0.025
EQUIVALENT_ALPHA = 0.05
_Z_95 = float(scipy.stats.norm.ppf(0.975))


class MarginOutcome(StrEnum):
    """What a comparison shows about a margin."""

    EQUIVALENT = "equivalent within the margin"
    NOT_WORSE = "not worse by more than the margin"
    WORSE = "worse by more than the margin"
    OPEN = "not shown"


class MarginTest(Frozen):
    """The tests of a delta against a margin."""

    margin_points: float = Field(gt=0, description="The margin, in points.")
    p_non_inferior: float = Field(
        ge=0, le=1, description="One-sided p-value of 'the candidate is worse by the margin or more'."
    )
    p_equivalent: float = Field(
        ge=0,
        le=1,
        description="p-value of 'the two differ by the margin or more', the larger of two one-sided tests.",
    )
    outcome: MarginOutcome = Field(description="What is shown, by the p-values after their correction.")


def margin_test(delta: Delta, margin_points: float, *, lower_is_better: bool = False) -> MarginTest:
    """Test a delta against a margin in points; the p-values are not corrected.

    With `lower_is_better`, worse is above the base. Raises ValueError for a margin of 0 or less.
    """
    if margin_points <= 0:
        raise ValueError(f"a margin is more than 0 points, not {margin_points:g}")
    p_lower = _p_above(delta, -margin_points)
    p_upper = _p_below(delta, margin_points)
    p_non_inferior, p_equivalent = p_upper if lower_is_better else p_lower, max(p_lower, p_upper)
    return MarginTest(
        margin_points=margin_points,
        p_non_inferior=p_non_inferior,
        p_equivalent=p_equivalent,
        outcome=_outcome(delta, margin_points, p_non_inferior, p_equivalent, lower_is_better),
    )


def with_corrected(
    test: MarginTest,
    delta: Delta,
    p_non_inferior: float,
    p_equivalent: float,
    *,
    lower_is_better: bool = False,
) -> MarginTest:
    """The test with p-values that are corrected for further tests, and the outcome that follows from them."""
    return test.model_copy(
        update={
            "p_non_inferior": p_non_inferior,
            "p_equivalent": p_equivalent,
            "outcome": _outcome(delta, test.margin_points, p_non_inferior, p_equivalent, lower_is_better),
        }
    )


def _outcome(
    delta: Delta, margin_points: float, p_non_inferior: float, p_equivalent: float, lower_is_better: bool
) -> MarginOutcome:
    if p_equivalent < EQUIVALENT_ALPHA:
        return MarginOutcome.EQUIVALENT
    if p_non_inferior < NON_INFERIOR_ALPHA:
        return MarginOutcome.NOT_WORSE
    best = -delta.interval.low if lower_is_better else delta.interval.high
    return MarginOutcome.WORSE if best < -margin_points else MarginOutcome.OPEN


def _p_above(delta: Delta, bound: float) -> float:
    """One-sided p-value of 'the true delta is at or below the bound'."""
    spread = _spread(delta)
    if spread == 0:
        return 0.0 if delta.delta_points > bound else 1.0
    return float(scipy.stats.norm.sf((delta.delta_points - bound) / spread))


def _p_below(delta: Delta, bound: float) -> float:
    """One-sided p-value of 'the true delta is at or above the bound'."""
    spread = _spread(delta)
    if spread == 0:
        return 0.0 if delta.delta_points < bound else 1.0
    return float(scipy.stats.norm.cdf((delta.delta_points - bound) / spread))


def _spread(delta: Delta) -> float:
    """The standard error that the half-width of the 95 % interval stands for; an end cut at ±100 points is not used."""
    half = max(delta.interval.high - delta.delta_points, delta.delta_points - delta.interval.low)
    return max(half / _Z_95, delta.stderr_points)
