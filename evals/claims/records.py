"""Claims, figures, measurements and verdicts, with a sentence for every field."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evals.claims.facts import Facts
from evals.engine import Frozen
from evals.scores import BenchmarkScore, Score
from evals.stats import Estimate, Interval


class Where(StrEnum):
    """Part of a card that a figure stands in."""

    MODEL_INDEX = "model-index"
    TABLE = "table"
    TEXT = "text"


class Unit(StrEnum):
    """What a written figure counts."""

    POINTS = "points"  # a score, 0 to 100
    FRACTION = "fraction"  # a score, 0 to 1
    CHANGE = "change"  # a signed change, written with "%"


class Scale(StrEnum):
    """Scale of a claimed score."""

    NORMALIZED = "normalized"
    RAW = "raw"


class Figure(Frozen):
    """One number of a card, as it stands there."""

    where: Where = Field(description="Part of the card.")
    group: int = Field(ge=0, description="Table or list that it belongs to, counted from 0 within the card.")
    line: int = Field(ge=1, description="Line of the card, from 1.")
    subject: str | None = Field(
        description="Row or column that says whose figure it is; null is the card's own model."
    )
    label: str = Field(description="Benchmark as it is written, for example 'MATH Lvl 5 (4-Shot)'.")
    suite: str | None = Field(
        description="Suite whose benchmark or average the label names; null if none is known."
    )
    benchmark: str | None = Field(
        description="Benchmark that the label names; null for an average or where unknown."
    )
    is_average: bool = Field(default=False, description="Whether the label says that it is an average.")
    written: str = Field(description="The number as it is written.")
    value: float = Field(description="The number.")
    digits: int = Field(ge=0, description="Decimals that it is rounded to.")
    unit: Unit = Field(description="What it counts.")
    metric: str | None = Field(default=None, description="Metric that the card names.")
    shots: int | None = Field(default=None, ge=0, description="Few-shot examples that the card names.")
    source_name: str | None = Field(default=None, description="Who measured it, as the card says.")
    source_url: str | None = Field(default=None, description="Where it was published, as the card says.")
    facts: Facts = Field(default=Facts(), description="How it was measured, as the card says of this figure.")
    scale: Scale | None = Field(
        default=None, description="Whether it is raw or normalized, where the card says so beside it."
    )
    unclear: str | None = Field(
        default=None, description="What about it can be read in two ways, in one sentence; null if nothing."
    )
    error: str | None = Field(
        default=None, description="Why it is no score although it stands among scores; null if it is one."
    )

    @property
    def points(self) -> float:
        """The figure as a score from 0 to 100."""
        return round(self.value * 100, 10) if self.unit is Unit.FRACTION else self.value

    @property
    def rounding_points(self) -> float:
        """Half a unit of its last decimal, in points."""
        return 0.5 * 10.0**-self.digits * (100 if self.unit is Unit.FRACTION else 1)


class Claim(Frozen):
    """A published number with its source."""

    subject: str | None = Field(description="Checkpoint that it is about, as far as the source says.")
    suite: str = Field(description="Suite that the number belongs to.")
    benchmark: str | None = Field(description="Benchmark; null for the suite's average.")
    title: str = Field(description="Benchmark as the source writes it.")
    value: float = Field(description="The claimed score, 0 to 100.")
    rounding_points: float = Field(ge=0, description="Half a unit of the last written decimal, in points.")
    scale: Scale = Field(description="Whether the board's normalisation is in it.")
    source: str = Field(description="Where it was found, for example 'card.md, model-index, line 20'.")
    source_url: str | None = Field(default=None, description="Where it was published.")
    of_board: bool = Field(
        default=False, description="Whether the source says that the board itself measured it."
    )
    facts: Facts = Field(default=Facts(), description="What is known of how it was measured.")
    unclear: tuple[str, ...] = Field(
        default=(),
        description="What about it can be read in two ways, one sentence each; such a claim is judged only if forced.",
    )


class Measurement(Frozen):
    """One benchmark's own result with all that is known of how it came about."""

    checkpoint: str = Field(description="What was measured, for people.")
    facts: Facts = Field(description="How it was measured.")
    scores: tuple[Score, ...] = Field(description="Every metric of every subset.")
    result: BenchmarkScore = Field(description="The benchmark as its leaderboard shows it.")
    estimate: Estimate = Field(description="The normalized score with its interval.")


class SuiteMeasurement(Frozen):
    """A suite's average with the measurements that it is made of."""

    estimate: Estimate = Field(description="The mean of the benchmarks with its interval.")
    missing: tuple[str, ...] = Field(description="Titles of benchmarks that are missing or partial.")
    parts: tuple[Measurement, ...] = Field(description="The benchmarks that are there.")


class VerdictKind(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_COMPARABLE = "not comparable"


class Verdict(Frozen):
    """A claim, our own number, and what follows."""

    claim: Claim = Field(description="The claim.")
    kind: VerdictKind = Field(description="What became of it.")
    reason: str = Field(description="Why, in one sentence.")
    measured: float | None = Field(
        default=None, description="Our normalized score, 0 to 100; null if there is none."
    )
    difference_points: float | None = Field(default=None, description="Ours minus the claim, in points.")
    interval: Interval | None = Field(
        default=None, description="95 % interval of ours, without the claim's rounding."
    )
    forced: bool = Field(
        default=False, description="Whether it was judged although the two may not be compared."
    )


class CheckKind(StrEnum):
    """What was checked about a card."""

    AVERAGE = "average"
    RELATIVE_CHANGE = "relative change"
    CONTRADICTION = "contradiction"
    PARAMETERS = "parameters"
    BOARD = "board"
    CONFOUND = "confound"
    READING = "reading"


class CheckOutcome(StrEnum):
    """What came of a check."""

    HOLDS = "holds"
    NOTE = "note"
    FAILS = "fails"


class CardCheck(Frozen):
    """One check of what a card says against itself, its recipe or published rows."""

    kind: CheckKind = Field(description="What was checked.")
    outcome: CheckOutcome = Field(description="Whether it holds, fails, or is worth knowing.")
    sentence: str = Field(description="What was found, in one sentence.")
    line: int | None = Field(default=None, description="Line of the card, where it is about one.")
