"""The rule of a race of a sweep's candidates; apart from its statistics, so that a sweep file is read without them."""

from __future__ import annotations

from pydantic import Field, field_validator

from evals.engine import Frozen


def ascending(shares: tuple[float, ...]) -> tuple[float, ...]:
    """The shares of a race's looks; ValueError unless they ascend between 0 and 1."""
    if not all(a < b for a, b in zip((0.0, *shares), (*shares, 1.0), strict=True)):
        raise ValueError("the shares ascend, above 0 and below 1")
    return shares


class RaceRule(Frozen):
    """When the candidates of a sweep are looked at, and who leaves."""

    keep: int = Field(
        ge=1,
        description="Number of best candidates, by the average of the sweep's benchmarks, that are asked everything.",
    )
    error_rate: float = Field(
        default=0.05,
        ge=1e-3,
        le=0.25,
        description="Probability that any of the best leaves, over all candidates and all looks together.",
    )
    shares: tuple[float, ...] = Field(
        default=(0.1, 0.25, 0.5),
        min_length=1,
        description="Shares of each benchmark's documents after which candidates may leave, ascending.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random order of the documents.")

    @field_validator("shares")
    @classmethod
    def _ascend(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        return ascending(shares)
