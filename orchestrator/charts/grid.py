"""Data of a heatmap: matrix of differences to the base, colour limits and marked cells."""

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
    """How the colour limits are chosen, see `colour_limits`; the base is always in the middle."""

    OWN = "own"
    PUBLISHED = "published"
    FULL = "full"

    @classmethod
    def named(cls, name: str) -> ColourScale:
        """The scale of this name. Raises ChartError for an unknown name."""
        try:
            return cls(name)
        except ValueError:
            choices = ", ".join(cls)
            raise ChartError(f"There is no colour scale {name!r}; choose one of {choices}.") from None


class HeatGrid(Frozen):
    """One measure over all blocks (i, j) of a scan: rows are the start i, columns the end j."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    deltas: NDArray[np.float64] = Field(
        description="Value minus base, shape (N + 1, N + 1); NaN if not measured."
    )
    failed: tuple[tuple[int, int], ...] = Field(description="Cells (i, j) whose measurement failed.")
    missing: tuple[tuple[int, int], ...] = Field(description="Cells (i, j) without a measurement.")
    left: tuple[ScanPoint, ...] = Field(
        default=(), description="Points that left a race and have no value; each has a cell."
    )
    outlined: tuple[ScanPoint, ...] = Field(description="Points that are confirmed to differ from the base.")
    best: ScanPoint | None = Field(description="The point with the highest value; null if none is measured.")
    low: float = Field(description="Lower colour limit (orange, worse); below 0.")
    high: float = Field(description="Upper colour limit (blue, better); above 0.")
    clipped: int = Field(description="Number of cells below the lower limit.")


def heat_grid(scan: Scan, measure: str, scale: ColourScale = ColourScale.OWN) -> HeatGrid:
    """The grid of one measure; points that are not a single block have no cell."""
    scan.measure(measure)
    size = scan.n_layers + 1
    deltas = np.full((size, size), np.nan)
    deltas[0, 0] = 0.0
    failed, best = [], None
    left: list[ScanPoint] = []
    for point in scan.points:
        if point.block is None or point.block == (0, 0):
            continue
        i, j = point.block
        if not 0 <= i < j <= scan.n_layers:
            raise ChartError(
                f"Block ({i}, {j}) does not fit the scan's {scan.n_layers} layers: check the scan's base."
            )
        if point.status is PointStatus.LEFT:
            left.append(point)
        elif point.status is PointStatus.FAILED or (point.reason and measure not in point.values):
            failed.append((i, j))
        elif point.status is PointStatus.MEASURED and measure in point.values:
            deltas[i, j] = scan.delta(point, measure)
            if best is None or point.values[measure] > best.values[measure]:
                best = point
    failed_cells = {*failed, *(point.block for point in left)}
    missing = tuple(
        (i, j)
        for i in range(size)
        for j in range(i + 1, size)
        if np.isnan(deltas[i, j]) and (i, j) not in failed_cells
    )
    measured = [float(d) for d in deltas[~np.isnan(deltas)]]
    low, high = colour_limits(measured, scale)
    clipped = sum(d < low - 1e-12 for d in measured)
    return HeatGrid(
        deltas=deltas,
        failed=tuple(failed),
        missing=missing,
        left=tuple(left),
        best=best,
        low=low,
        high=high,
        clipped=clipped,
        outlined=tuple(p for p in scan.points if p.outlined and p.block is not None),
    )


def colour_limits(deltas: list[float], scale: ColourScale) -> tuple[float, float]:
    """Lower and upper colour limit; the base is in the middle.

    own        the same limit on both sides, so that equal colours are equal differences: the larger of the best
               gain and the 95th percentile of the losses, because a few layers break the model
    published  the upper limit is the best gain; the lower one is the largest of the best gain, three standard
               deviations of the gains, and the smaller of the 95th percentile of the losses and six times the
               best gain; at most the worst loss. If no path gains much, nearly all cells are below it
    full       the largest difference on both sides
    """
    gains = [d for d in deltas if d > 0]
    losses = sorted(-d for d in deltas if d < 0)
    high = max(gains, default=0.0)
    worst = max(losses, default=0.0)
    within = losses[math.ceil(0.95 * len(losses)) - 1] if losses else 0.0
    if scale is ColourScale.OWN and (gains or losses):
        limit = max(high, within)
        return -limit, limit
    if scale is not ColourScale.PUBLISHED or not gains or not losses:
        limit = max(high, worst) or 1.0
        return -limit, limit
    reach = max(high, 3 * statistics.pstdev([0.0, *gains]))
    low = min(max(reach, min(within, MAX_ASYMMETRY * high)), worst)
    return -max(low, 1e-12), high
