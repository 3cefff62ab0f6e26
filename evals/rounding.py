"""The one rounding of scores and differences: two decimals of the exact decimal, ties to even as on the leaderboards.

A value is first rounded to ten decimals, so that 57.845 that floating-point sums turned into 57.84499999999999 is rounded as
57.845. Differences and relative changes are computed from unrounded scores, and rounded once.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

_EXACT = Decimal("1e-10")


def rounded(value: float, digits: int = 2) -> float:
    """The value rounded to `digits` decimals; never -0.0."""
    exact = Decimal(value).quantize(_EXACT, rounding=ROUND_HALF_EVEN)
    return float(exact.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)) + 0.0


def points_text(value: float, digits: int = 2) -> str:
    """A score in points, for example '57.84'."""
    return f"{rounded(value, digits):.{digits}f}"


def change_text(value: float, digits: int = 2) -> str:
    """A difference with its sign, for example '-1.89'; '+0.00' for none."""
    return f"{rounded(value, digits):+.{digits}f}"
