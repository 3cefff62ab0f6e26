"""Records of figures, claims, measurements, verdicts and checks."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evals.claims.facts import Facts
from evals.engine import Frozen
from evals.scores import BenchmarkScore, Score
from evals.stats import Estimate, Interval


class Where(StrEnum):
    """Part of a card that contains a figure."""

    MODEL_INDEX = "model-index"
    TABLE = "table"
    TEXT = "text"


class Unit(StrEnum):
    """Unit of a written figure."""

    POINTS = "points"  # a score, 0 to 100
    FRACTION = "fraction"  # a score, 0 to 1
    CHANGE = "change"  # a signed change, written with "%"
    OWN = "own range"  # a score on the benchmark's own range, such as 0 to 10, an Elo rating, or a perplexity


class Scale(StrEnum):
    """Scale of a claimed score."""

    NORMALIZED = "normalized"
    RAW = "raw"


class Figure(Frozen):
    """One number as written in a card."""

    where: Where = Field(description="Part of the card.")
    group: int = Field(ge=0, description="Table or list that it belongs to, counted from 0 within the card.")
    line: int = Field(ge=1, description="Line of the card, from 1.")
    subject: str | None = Field(
        description="Row or column that names the figure's model; null for the card's own model."
    )
    label: str = Field(description="Benchmark as it is written, for example 'MATH Lvl 5 (4-Shot)'.")
    suite: str | None = Field(
        description="Suite whose benchmark or average the label names; null if unknown."
    )
    benchmark: str | None = Field(
        description="Benchmark that the label names; null for an average or if unknown."
    )
    known_as: str | None = Field(
        default=None, description="Name in the table of known benchmarks; null if it is in none of them."
    )
    is_average: bool = Field(default=False, description="Whether the label names an average.")
    written: str = Field(description="The number as written.")
    value: float = Field(description="The number.")
    digits: int = Field(ge=0, description="Decimals that it is rounded to.")
    unit: Unit = Field(description="Unit of the number.")
    metric: str | None = Field(default=None, description="Metric that the card names.")
    shots: int | None = Field(default=None, ge=0, description="Few-shot examples that the card names.")
    n: int | None = Field(default=None, ge=1, description="Number of questions that the card names.")
    source_name: str | None = Field(default=None, description="Who measured it, according to the card.")
    source_url: str | None = Field(default=None, description="URL of the publication, according to the card.")
    facts: Facts = Field(default=Facts(), description="How it was measured, according to the card.")
    scale: Scale | None = Field(
        default=None, description="Raw or normalized, if the card states it for this figure."
    )
    unclear: str | None = Field(
        default=None, description="Why the figure is ambiguous, in one sentence; null if it is not."
    )
    error: str | None = Field(
        default=None, description="Why a number among scores is not a score; null if it is one."
    )

    @property
    def name(self) -> str:
        """The benchmark: of the suite, else of the table of known benchmarks, else as the card writes it."""
        return "Average" if self.is_average else (self.known_as or self.label)

    @property
    def key(self) -> str | None:
        """What the figure is of: a suite's benchmark, a known benchmark, or the label as written; None for an average."""
        if self.is_average:
            return None
        return self.benchmark or self.known_as or self.label

    @property
    def points(self) -> float:
        """The figure as a score from 0 to 100, or on the benchmark's own range."""
        return round(self.value * 100, 10) if self.unit is Unit.FRACTION else self.value

    @property
    def rounding_points(self) -> float:
        """Half a unit of the last decimal, in points."""
        return 0.5 * 10.0**-self.digits * (100 if self.unit is Unit.FRACTION else 1)


class Claim(Frozen):
    """A published number with its source."""

    subject: str | None = Field(description="Checkpoint that the claim is about, if the source names it.")
    suite: str | None = Field(
        description="Suite that the number belongs to; null if no suite has its benchmark."
    )
    benchmark: str | None = Field(
        description="Benchmark: of the suite, else of the table of known benchmarks, else as written; null for an average."
    )
    title: str = Field(description="Benchmark as the source writes it.")
    known_as: str | None = Field(
        default=None, description="Name in the table of known benchmarks; null if nobody knows it."
    )
    metric: str | None = Field(default=None, description="Metric, as the source names it.")
    n: int | None = Field(default=None, ge=1, description="Number of questions, if the source names it.")
    runs: int | None = Field(
        default=None,
        ge=0,
        description="Runs per question that it averages, if the source says; 0 for an unknown number of several.",
    )
    in_percent: bool = Field(default=True, description="Whether the value is from 0 to 100.")
    value: float = Field(description="The claimed score, 0 to 100 unless the benchmark has another range.")
    rounding_points: float = Field(ge=0, description="Half a unit of the last written decimal, in points.")
    scale: Scale = Field(description="Raw or normalized as the board normalizes.")
    source: str = Field(description="Location of the claim, for example 'card.md, model-index, line 20'.")
    source_url: str | None = Field(default=None, description="URL of the publication.")
    of_board: bool = Field(default=False, description="Whether the source says that the board measured it.")
    facts: Facts = Field(default=Facts(), description="Known circumstances of the measurement.")
    unclear: tuple[str, ...] = Field(
        default=(),
        description="Ambiguities, one sentence each; an ambiguous claim is judged only if forced.",
    )


class Measurement(Frozen):
    """Our result of one benchmark with its circumstances."""

    checkpoint: str = Field(description="Display name of the checkpoint.")
    facts: Facts = Field(description="How it was measured.")
    scores: tuple[Score, ...] = Field(description="Scores of every metric of every subset.")
    result: BenchmarkScore = Field(description="The benchmark's result as its leaderboard shows it.")
    estimate: Estimate = Field(description="The normalized score with its interval.")


class SuiteMeasurement(Frozen):
    """A suite's average with the measurements that it averages."""

    estimate: Estimate = Field(description="The mean of the benchmarks with its interval.")
    missing: tuple[str, ...] = Field(description="Titles of benchmarks that are missing or partial.")
    parts: tuple[Measurement, ...] = Field(description="The measured benchmarks.")


class VerdictKind(StrEnum):
    """Outcome of judging a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_COMPARABLE = "not comparable"
    IMPOSSIBLE = "impossible"  # no run on that many questions can give it


class Verdict(Frozen):
    """A claim, our own score, and the verdict."""

    claim: Claim = Field(description="The claim.")
    kind: VerdictKind = Field(description="Outcome for the claim.")
    reason: str = Field(description="Reason in one sentence.")
    measured: float | None = Field(
        default=None, description="Our normalized score, 0 to 100; null if there is none."
    )
    difference_points: float | None = Field(default=None, description="Ours minus the claim, in points.")
    interval: Interval | None = Field(
        default=None, description="95 % interval of our score, without the claim's rounding."
    )
    forced: bool = Field(
        default=False, description="Whether it was judged although the two are not comparable."
    )


class CheckKind(StrEnum):
    """Kind of a check of a card."""

    AVERAGE = "average"
    RELATIVE_CHANGE = "relative change"
    CONTRADICTION = "contradiction"
    PARAMETERS = "parameters"
    BOARD = "board"
    CONFOUND = "confound"
    READING = "reading"
    IMPOSSIBLE = "impossible score"
    SMALL_DIFFERENCE = "small difference"
    MIXED_PROTOCOLS = "mixed protocols"
    BASE_PROTOCOL = "protocol of the base"
    LUCK = "best of many"
    RECIPE = "recipe"


class CheckOutcome(StrEnum):
    """Outcome of a check."""

    HOLDS = "holds"
    NOTE = "note"
    FAILS = "fails"


class CardCheck(Frozen):
    """One check of a card against itself, its recipe or published rows."""

    kind: CheckKind = Field(description="What was checked.")
    outcome: CheckOutcome = Field(description="Whether it holds, fails, or is a note.")
    sentence: str = Field(description="Result in one sentence.")
    line: int | None = Field(default=None, description="Line of the card that it concerns; null if none.")
