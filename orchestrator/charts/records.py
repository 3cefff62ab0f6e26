"""What charts are drawn from: plain records, made by the store or the dashboard's queries."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from evals.engine import Frozen
from orchestrator.errors import MergeboardError


class ChartError(MergeboardError):
    """A chart cannot be drawn from what is there; the message says what is missing."""


class PointStatus(StrEnum):
    """Whether a path has a value."""

    MEASURED = "measured"
    FAILED = "failed"
    PENDING = "pending"


class ScanPoint(Frozen):
    """One layer path of a scan and its values."""

    label: str = Field(description="Short name, for example '(10, 17)'.")
    block: tuple[int, int] | None = Field(
        description="Its (i, j); null where no single block makes this path."
    )
    n_added: int = Field(description="Layers more (or, negative, fewer) than the base has.")
    status: PointStatus = Field(default=PointStatus.MEASURED, description="Whether it was measured.")
    values: dict[str, float] = Field(default_factory=dict, description="Value of each measure, by its name.")
    reason: str | None = Field(default=None, description="Why the measurement failed, where it did.")


class NullLine(Frozen):
    """A value that knowing nothing gets."""

    name: str = Field(description="Which answerer, for example 'random'.")
    value: float = Field(description="Its value, on the measure's scale.")


class Measure(Frozen):
    """A quantity that a scan has for every path."""

    name: str = Field(description="Key in the points' values.")
    title: str = Field(description="Name for people.")
    nulls: tuple[NullLine, ...] = Field(default=(), description="Null levels, where the measure has some.")
    ceiling: float | None = Field(
        default=None, description="Highest value that can be reached, where it is known."
    )
    unit: str = Field(default="", description="Unit behind a figure, for example ' points'.")
    decimals: int = Field(default=3, ge=0, description="Decimals of a figure.")

    def text(self, value: float, sign: bool = False) -> str:
        """A figure of this measure."""
        return f"{value:{'+' if sign else ''}.{self.decimals}f}{self.unit}".replace("-", "\N{MINUS SIGN}")


class Scan(Frozen):
    """All paths of a scan over one base."""

    title: str = Field(description="What was scanned, for example the checkpoint's name.")
    n_layers: int = Field(ge=1, description="Number of layers of the base.")
    measures: tuple[Measure, ...] = Field(description="The quantities.")
    base: dict[str, float] = Field(description="The base's value of each measure.")
    points: tuple[ScanPoint, ...] = Field(description="The paths, the base left out.")

    @model_validator(mode="after")
    def _check(self) -> Scan:
        missing = [m.name for m in self.measures if m.name not in self.base]
        if missing:
            raise ChartError(
                f"The base has no value of {', '.join(missing)}: measure the unmodified path first."
            )
        return self

    def measure(self, name: str) -> Measure:
        """One measure by its name."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        known = ", ".join(m.name for m in self.measures) or "none"
        raise ChartError(f"The scan has no measure {name!r}; it has {known}.")

    def measured(self, *names: str) -> tuple[ScanPoint, ...]:
        """The points that have a value of all of these measures."""
        return tuple(
            p for p in self.points if p.status is PointStatus.MEASURED and all(n in p.values for n in names)
        )

    def delta(self, point: ScanPoint, name: str) -> float:
        """A point's value minus the base's."""
        return point.values[name] - self.base[name]


class DeltaBar(Frozen):
    """One benchmark's difference between candidate and base."""

    benchmark: str = Field(description="Name for people, for example 'MATH Lvl 5'.")
    delta_points: float = Field(description="Candidate minus base, in points.")
    low: float = Field(description="Lower end of its 95 % interval.")
    high: float = Field(description="Upper end of its 95 % interval.")
    significant: bool = Field(description="Whether it is significant after correction.")
    incomparable: str | None = Field(
        default=None, description="Why the two may not be compared, where they may not."
    )
