"""The records of a comparison: candidate against base, benchmark by benchmark."""

from __future__ import annotations

from pydantic import Field

from evals.engine import Frozen
from evals.stats import Delta

SIGNIFICANT = 0.05


class ComparisonRow(Frozen):
    """One benchmark, or a mean over several, of a candidate against the base."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str | None = Field(description="Name of the benchmark; null for a mean over several.")
    title: str = Field(description="Name for people.")
    base: float | None = Field(description="Normalized score of the base, 0 to 100; null if it has none.")
    candidate: float | None = Field(
        description="Normalized score of the candidate, 0 to 100; null if it has none."
    )
    delta: Delta | None = Field(
        description="The difference with interval and test; null where it may not be taken."
    )
    p_corrected: float | None = Field(
        default=None,
        description="p-value corrected (Holm) for every benchmark and every average of every candidate that was tried.",
    )
    refused: tuple[str, ...] = Field(default=(), description="Why the two may not be compared, in words.")
    forced: bool = Field(default=False, description="Whether they were compared in spite of that.")
    notes: tuple[str, ...] = Field(
        default=(), description="What to know about the row: alarms, partial, unpaired."
    )

    @property
    def significant(self) -> bool:
        """Whether the difference is real as far as the corrected test can tell."""
        return self.p_corrected is not None and self.p_corrected < SIGNIFICANT

    @property
    def alone(self) -> bool:
        """Whether its interval leaves out 0, but the correction for all that was tried leaves no finding."""
        return self.delta is not None and self.delta.p < SIGNIFICANT and not self.significant

    @property
    def verdict(self) -> str:
        """The row in a word or two."""
        if self.delta is None:
            return "not compared"
        if not self.significant:
            return "no difference shown"
        return "better" if self.delta.delta_points > 0 else "worse"


class Comparison(Frozen):
    """A candidate against the base."""

    base: str = Field(description="The base, for people.")
    candidate: str = Field(description="The candidate, for people.")
    rows: tuple[ComparisonRow, ...] = Field(description="One per benchmark that either side has.")
    averages: tuple[ComparisonRow, ...] = Field(
        description="One per suite with more than one compared benchmark."
    )
    n_tests: int = Field(ge=0, description="Number of tests that the corrected p-values take into account.")
    n_candidates: int = Field(
        default=1,
        ge=0,
        description="Number of candidates whose tests these are; one with two engines counts twice.",
    )

    @property
    def forced(self) -> bool:
        """Whether any row was compared although it may not be."""
        return any(row.forced for row in (*self.rows, *self.averages))
