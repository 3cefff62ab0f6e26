"""Records of a comparison: intervals, tests, deltas and shrinkage."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen


class Interval(Frozen):
    """A confidence interval."""

    low: float = Field(description="Lower end.")
    high: float = Field(description="Upper end.")
    level: float = Field(default=0.95, gt=0, lt=1, description="Confidence.")

    def holds(self, value: float, widened_by: float = 0.0) -> bool:
        """Whether the value lies in the closed interval, widened on both sides."""
        slack = widened_by + 1e-9
        return self.low - slack <= value <= self.high + slack


class Estimate(Frozen):
    """A normalized score with its uncertainty."""

    value: float = Field(description="Normalized score, 0 to 100.")
    interval: Interval = Field(description="95 % interval of the score, in points.")
    stderr_points: float = Field(ge=0, description="Standard error of the score, in points.")
    n: int = Field(ge=1, description="Number of documents.")
    clusters: int | None = Field(
        default=None,
        description="Number of clusters that the interval is by: questions that share a passage, story or source; null for none.",
    )


class SignificanceTest(StrEnum):
    """Test that a p-value comes from."""

    SIGN_FLIP = "exact sign flip"
    """Base and candidate swapped question by question, on the normalized score."""
    UNPAIRED = "unpaired"
    """Two sets of scores without samples."""
    MCNEMAR = "exact McNemar"
    """Right or wrong answers to tasks that no suite contains; older versions wrote it for those of suites too."""
    BOOTSTRAP = "paired bootstrap"
    """Metrics over all documents (F1, BLEU); older versions wrote it for all answers that are not right or wrong."""


class Flips(Frozen):
    """Paired answers of two checkpoints to the same questions."""

    both_right: int = Field(ge=0, description="Documents that both answer correctly.")
    both_wrong: int = Field(ge=0, description="Documents that both answer incorrectly.")
    gained: int = Field(ge=0, description="Documents that only the candidate answers correctly.")
    lost: int = Field(ge=0, description="Documents that only the base answers correctly.")

    @property
    def n(self) -> int:
        """Number of documents."""
        return self.both_right + self.both_wrong + self.gained + self.lost


class Delta(Frozen):
    """Candidate minus base, on the leaderboard's scale."""

    base: float = Field(description="Normalized score of the base, 0 to 100.")
    candidate: float = Field(description="Normalized score of the candidate, 0 to 100.")
    delta_points: float = Field(description="Candidate minus base, in points.")
    delta_percent: float | None = Field(description="Relative change in per cent; null for a base at 0.")
    interval: Interval = Field(
        description="95 % interval of delta_points, not corrected for other tests: it excludes 0 if p is below 0.05."
    )
    stderr_points: float = Field(ge=0, description="Standard error of delta_points.")
    detectable_points: float = Field(
        ge=0,
        description="Smallest true delta that such a run detects in 80 % of cases at p < 0.05, in points.",
    )
    test: SignificanceTest = Field(description="Test that p comes from.")
    p: float = Field(
        ge=0,
        le=1,
        description="Two-sided p-value of 'the normalized score does not change', not corrected.",
    )
    n: int = Field(ge=1, description="Number of compared documents.")
    gained: int | None = Field(
        ge=0, description="Documents on which the candidate is better; null without samples."
    )
    lost: int | None = Field(ge=0, description="Documents on which the base is better; null without samples.")
    clusters: int | None = Field(
        default=None,
        description="Number of clusters that interval and test are by: questions that share a passage, story or source; null for none.",
    )


class Shrinkage(Frozen):
    """Gains selected on a search set compared with their confirmation."""

    n: int = Field(ge=1, description="Number of confirmed candidates.")
    search_mean: float = Field(description="Their mean delta on the search set.")
    confirmation_mean: float = Field(description="Their mean delta on the confirmation set.")
    kept: float | None = Field(
        description="Share of the search gain that was kept, confirmation_mean / search_mean; null if search_mean is 0."
    )
    kept_interval: Interval | None = Field(
        description="95 % interval of kept over the candidates; null for fewer than three candidates."
    )


class Shrunk(Frozen):
    """Expected true delta of a search delta, corrected for selection."""

    observed: float = Field(description="Delta on the search set.")
    expected: float = Field(description="Posterior mean of the true delta.")
    stderr: float = Field(ge=0, description="Posterior standard deviation of the true delta.")
    weight: float = Field(ge=0, le=1, description="Share of the distance from the common mean that is kept.")
