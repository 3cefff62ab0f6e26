"""A scan from its first path to its last verdict, as one record."""

from __future__ import annotations

import math

from pydantic import Field

from evals.engine import Frozen
from evals.probes import Confirmation, Level, PathValues, Ranking
from orchestrator.search.request import ScanRequest
from recipes.layer_path import LayerPath


class FailedPath(Frozen):
    """A layer path without a value."""

    label: str = Field(description="Short name of the path.")
    layers: tuple[int, ...] = Field(description="Source layers in the order in which they run.")
    reason: str = Field(description="Why it has none, one sentence.")


class ScanReport(Frozen):
    """What a scan found. Probe values are fractions of 1 and no benchmark scores."""

    request: ScanRequest = Field(description="What was asked for.")
    run_id: str = Field(description="The run that searched.")
    confirmation_run_id: str | None = Field(
        description="The run that confirmed; null where no path was picked."
    )
    n_layers: int = Field(description="Layers of the checkpoint.")
    table: tuple[PathValues, ...] = Field(
        description="Every path's value in each probe, by the probe's key; the base first."
    )
    levels: dict[str, tuple[Level, ...]] = Field(
        description="Null levels and ceilings of the search sets, by the probe's key."
    )
    ranking: Ranking = Field(description="The paths by the search set, best first.")
    failed: tuple[FailedPath, ...] = Field(description="Paths that could not be measured.")
    confirmation: Confirmation | None = Field(
        description="What became of the best; null where no path was picked."
    )
    duration_s: float = Field(description="Seconds that this command took; a resumed scan took more.")

    @property
    def conclusion(self) -> str:
        """The result in one or two sentences."""
        if self.confirmation is not None:
            return self.confirmation.conclusion
        return "No path was confirmed: these are values of the search set, the best of them picked by luck as well."

    def path(self, layers: tuple[int, ...]) -> LayerPath:
        """A path of this scan."""
        return LayerPath.model_construct(layers=layers, n_layers=self.n_layers)


def weights_of(ranking: Ranking) -> dict[str, float]:
    """Weights under which the mean gain over the probes orders the paths as the balanced z does: one over each spread."""
    return {
        name: 1.0 / spread if spread > 1e-12 and math.isfinite(spread) else 1.0
        for name, spread in ranking.spreads.items()
    }
