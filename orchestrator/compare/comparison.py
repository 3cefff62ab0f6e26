"""Records of a comparison of a candidate with the base, one row per benchmark."""

from __future__ import annotations

from pydantic import Field

from evals.engine import Frozen
from evals.stats import Delta, MarginTest

SIGNIFICANT = 0.05


class ComparisonRow(Frozen):
    """A candidate compared with the base on one benchmark, or on the mean over several."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str | None = Field(description="Name of the benchmark; null for a mean over several.")
    title: str = Field(description="Display name.")
    base: float | None = Field(description="Normalized score of the base, 0 to 100; null if it has none.")
    candidate: float | None = Field(
        description="Normalized score of the candidate, 0 to 100; null if it has none."
    )
    delta: Delta | None = Field(
        description="The difference with interval and test; null if the two must not be compared."
    )
    p_corrected: float | None = Field(
        default=None,
        description="p-value, Holm-corrected over all benchmarks and averages of all candidates tried.",
    )
    margin: MarginTest | None = Field(
        default=None,
        description="Non-inferiority and equivalence with --margin, p-values Holm-corrected; null without.",
    )
    refused: tuple[str, ...] = Field(default=(), description="Reasons why the two must not be compared.")
    forced: bool = Field(
        default=False, description="Whether they were compared in spite of the reasons in `refused`."
    )
    notes: tuple[str, ...] = Field(
        default=(), description="Remarks on the row: alarms, partial or unpaired samples."
    )

    lower_is_better: bool = Field(
        default=False, description="Whether a negative difference is an improvement, as for perplexity."
    )

    @property
    def improved(self) -> bool:
        """Whether the difference is in the better direction."""
        return self.delta is not None and (self.delta.delta_points > 0) is not self.lower_is_better

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p_corrected is not None and self.p_corrected < SIGNIFICANT

    @property
    def alone(self) -> bool:
        """Whether the difference is significant before, but not after the correction for multiple tests."""
        return self.delta is not None and self.delta.p < SIGNIFICANT and not self.significant

    @property
    def verdict(self) -> str:
        """The outcome: `better`, `worse`, `no difference shown` or `not compared`."""
        if self.delta is None:
            return "not compared"
        if not self.significant:
            return "no difference shown"
        return "better" if self.improved else "worse"


class Comparison(Frozen):
    """A candidate compared with the base."""

    base: str = Field(description="Display name of the base.")
    candidate: str = Field(description="Display name of the candidate.")
    rows: tuple[ComparisonRow, ...] = Field(description="One per benchmark that either side has.")
    averages: tuple[ComparisonRow, ...] = Field(
        description="One per suite with more than one compared benchmark."
    )
    n_tests: int = Field(ge=0, description="Number of tests that the corrected p-values take into account.")
    n_candidates: int = Field(
        default=1,
        ge=0,
        description="Number of candidates in those tests; one evaluated with two engines counts twice.",
    )

    @property
    def forced(self) -> bool:
        """Whether any row was compared in spite of reasons against it."""
        return any(row.forced for row in (*self.rows, *self.averages))
