"""Input records of the charts."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from evals.engine import Frozen
from evals.probes import Finding
from orchestrator.charts.theme import Meaning, meaning_of
from orchestrator.errors import MergeboardError

PROBE_WARNING = "Probe values: not benchmark scores"
"""Warning on everything that shows probe values."""
SMOKE_WARNING = "Smoke test data: not leaderboard scores"
"""Warning on everything that shows scores of a smoke suite."""


MEANINGS = {
    Finding.REAL: Meaning.BETTER,
    Finding.SUGGESTIVE: Meaning.BETTER_UNCORRECTED,
    Finding.NOT_CONFIRMED: Meaning.NEUTRAL,
    Finding.WORSE: Meaning.WORSE,
}
"""What a confirmation's finding means, for its colour and mark."""


class ChartError(MergeboardError):
    """Raised if a chart cannot be drawn; the message says which data are missing."""


class PointStatus(StrEnum):
    """Status of a path's measurement."""

    MEASURED = "measured"
    FAILED = "failed"
    PENDING = "pending"
    LEFT = "left"
    """It left a race: it has an estimate from a part of the questions, and no value."""


class ScanPoint(Frozen):
    """One layer path of a scan with its values."""

    label: str = Field(description="Short name, for example '(10, 17)'.")
    block: tuple[int, int] | None = Field(
        description="Its block (i, j); null if the path is not a single repeated block."
    )
    n_added: int = Field(description="Number of layers minus that of the base.")
    status: PointStatus = Field(default=PointStatus.MEASURED, description="Whether it was measured.")
    values: dict[str, float] = Field(default_factory=dict, description="Values by name of the measure.")
    reason: str | None = Field(
        default=None,
        description="Why the measurement failed, or what is known of a path that left a race; null otherwise.",
    )
    confirmed: Meaning | None = Field(
        default=None,
        description="What it shows where it counts: on the confirmation set, or after the correction; null if not asked.",
    )

    @property
    def outlined(self) -> bool:
        """Whether it was confirmed to differ from the base: charts outline it."""
        return self.confirmed in (Meaning.BETTER, Meaning.WORSE)


class NullLine(Frozen):
    """A null level: the value of an answerer without knowledge."""

    name: str = Field(description="Name of the answerer, for example 'random'.")
    value: float = Field(description="Its value, on the measure's scale.")


class Measure(Frozen):
    """A quantity measured for every path of a scan."""

    name: str = Field(description="Key in the points' values.")
    title: str = Field(description="Display name.")
    nulls: tuple[NullLine, ...] = Field(default=(), description="Null levels of the measure.")
    ceiling: float | None = Field(default=None, description="Highest possible value; null if unknown.")
    unit: str = Field(default="", description="Unit after a number, for example ' points'.")
    decimals: int = Field(default=3, ge=0, description="Number of decimals in texts.")

    def text(self, value: float, sign: bool = False) -> str:
        """Format a value of this measure."""
        return f"{value:{'+' if sign else ''}.{self.decimals}f}{self.unit}".replace("-", "\N{MINUS SIGN}")


class Scan(Frozen):
    """All layer paths of a scan of one base."""

    title: str = Field(description="What was scanned, for example the checkpoint's name.")
    n_layers: int = Field(ge=1, description="Number of layers of the base.")
    measures: tuple[Measure, ...] = Field(description="The measured quantities.")
    base: dict[str, float] = Field(description="The base's value of each measure.")
    points: tuple[ScanPoint, ...] = Field(description="The layer paths without the base.")
    warning: str | None = Field(
        default=None,
        description="What its values must not be taken for; shown in every chart. Null if nothing.",
    )

    @model_validator(mode="after")
    def _check(self) -> Scan:
        missing = [m.name for m in self.measures if m.name not in self.base]
        if missing:
            raise ChartError(
                f"The base has no value of {', '.join(missing)}: measure the unmodified path first."
            )
        return self

    def measure(self, name: str) -> Measure:
        """One measure by its name. Raises ChartError for an unknown name."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        choices = ", ".join(m.name for m in self.measures) or "none"
        raise ChartError(f"The scan has no measure {name!r}; it has {choices}.")

    def measured(self, *names: str) -> tuple[ScanPoint, ...]:
        """The points with values of all of these measures."""
        return tuple(
            p for p in self.points if p.status is PointStatus.MEASURED and all(n in p.values for n in names)
        )

    def delta(self, point: ScanPoint, name: str) -> float:
        """A point's value minus the base's."""
        return point.values[name] - self.base[name]


class DeltaBar(Frozen):
    """One benchmark's difference between candidate and base."""

    benchmark: str = Field(description="Display name, for example 'MATH Lvl 5'.")
    delta_points: float = Field(description="Candidate minus base, in points.")
    low: float = Field(description="Lower end of its 95 % interval.")
    high: float = Field(description="Upper end of its 95 % interval.")
    significant: bool = Field(description="Whether it is significant after correction.")
    incomparable: str | None = Field(
        default=None, description="Why the two must not be compared; null if they can be."
    )
    lower_is_better: bool = Field(
        default=False, description="Whether a negative difference is an improvement, as for perplexity."
    )

    @property
    def meaning(self) -> Meaning:
        """The meaning of the difference, which sets its colour and marker."""
        return meaning_of(
            None if self.incomparable else self.delta_points,
            significant=self.significant,
            excludes_zero=self.low > 0 or self.high < 0,
            lower_is_better=self.lower_is_better,
        )
