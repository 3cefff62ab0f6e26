"""The numbers behind a heatmap: a matrix of differences to the base, its colour limits and its marked cells."""

from __future__ import annotations

import math
import statistics
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from evals.engine import Frozen
from orchestrator.charts.records import ChartError, PointStatus, Scan, ScanPoint

MAX_ASYMMETRY = 6.0


class ColourScale(StrEnum):
    """Where the colours end; the base is always in their middle. `colour_limits` has the figures."""

    OWN = "own"
    PUBLISHED = "published"
    FULL = "full"

    @classmethod
    def named(cls, name: str) -> ColourScale:
        """The scale of this name; ChartError where there is none."""
        try:
            return cls(name)
        except ValueError:
            known = ", ".join(cls)
            raise ChartError(f"There is no colour scale {name!r}; choose one of {known}.") from None


class HeatGrid(Frozen):
    """One measure over all (i, j) of a scan, rows i (start), columns j (end)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    deltas: NDArray[np.float64] = Field(
        description="Value minus base, shape (N + 1, N + 1); NaN where there is none."
    )
    failed: tuple[tuple[int, int], ...] = Field(description="Cells (i, j) whose measurement failed.")
    missing: tuple[tuple[int, int], ...] = Field(description="Cells (i, j) without a measurement.")
    best: ScanPoint | None = Field(description="The best measured cell; null where there is none.")
    low: float = Field(description="Where the blue end of the colours is; below 0.")
    high: float = Field(description="Where the red end of the colours is; above 0.")
    clipped: int = Field(description="Cells that are worse than the blue end.")


def heat_grid(scan: Scan, measure: str, scale: ColourScale = ColourScale.OWN) -> HeatGrid:
    """The grid of one measure; points that are no single block have no cell."""
    scan.measure(measure)
    size = scan.n_layers + 1
    deltas = np.full((size, size), np.nan)
    deltas[0, 0] = 0.0
    failed, best = [], None
    for point in scan.points:
        if point.block is None or point.block == (0, 0):
            continue
        i, j = point.block
        if not 0 <= i < j <= scan.n_layers:
            raise ChartError(
                f"Block ({i}, {j}) does not fit the scan's {scan.n_layers} layers: check the scan's base."
            )
        if point.status is PointStatus.FAILED:
            failed.append((i, j))
        elif point.status is PointStatus.MEASURED and measure in point.values:
            deltas[i, j] = scan.delta(point, measure)
            if best is None or point.values[measure] > best.values[measure]:
                best = point
    known = set(failed)
    missing = tuple(
        (i, j)
        for i in range(size)
        for j in range(i + 1, size)
        if np.isnan(deltas[i, j]) and (i, j) not in known
    )
    found = [float(d) for d in deltas[~np.isnan(deltas)]]
    low, high = colour_limits(found, scale)
    clipped = sum(d < low - 1e-12 for d in found)
    return HeatGrid(
        deltas=deltas, failed=tuple(failed), missing=missing, best=best, low=low, high=high, clipped=clipped
    )


def colour_limits(deltas: list[float], scale: ColourScale) -> tuple[float, float]:
    """Ends of the colours, base in the middle.

    own        each side has its own: the best gain, and the loss that 95 % of the losses stay within, so that a few layers
               which break the model leave colours for the rest; neither side's colours are more than six times as strong
               as the other's
    published  the whole positive side; the negative one is clipped at the larger of three standard deviations of the
               gains and the best one, but within the 95th percentile of the losses, and at most six times the
               positive side. Where no path gains much, nearly all of a map lies below it
    full       both sides as far as the larger one
    """
    gains = [d for d in deltas if d > 0]
    losses = sorted(-d for d in deltas if d < 0)
    high = max(gains, default=0.0)
    worst = max(losses, default=0.0)
    within = losses[math.ceil(0.95 * len(losses)) - 1] if losses else 0.0
    if scale is ColourScale.OWN and (gains or losses):
        return -max(within, high / MAX_ASYMMETRY), max(high, within / MAX_ASYMMETRY)
    if scale is not ColourScale.PUBLISHED or not gains or not losses:
        both = max(high, worst) or 1.0
        return -both, both
    reach = max(high, 3 * statistics.pstdev([0.0, *gains]))
    low = min(max(reach, min(within, MAX_ASYMMETRY * high)), worst)
    return -max(low, 1e-12), high
