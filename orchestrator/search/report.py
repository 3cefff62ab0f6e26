"""The complete result of a scan as one record."""

from __future__ import annotations

from pydantic import Field

from evals.engine import Frozen
from evals.layer_visits import VisitPath
from evals.probes import Confirmation, Level, PathValues, Ranking
from evals.probes.race import Race
from orchestrator.search.request import ScanRequest
from recipes.layer_path import LayerPath


class FailedPath(Frozen):
    """A layer path without a value."""

    label: str = Field(description="Short name of the path.")
    layers: VisitPath = Field(description="Source layers in the order in which they run.")
    reason: str = Field(description="Why it has no value, in one sentence.")


class ScanReport(Frozen):
    """The result of a scan. Probe values are fractions of 1, not benchmark scores."""

    request: ScanRequest = Field(description="Options of the scan.")
    run_id: str = Field(description="Id of the search run.")
    confirmation_run_id: str | None = Field(
        description="Id of the confirmation run; null if no path was picked."
    )
    n_layers: int = Field(description="Number of layers of the checkpoint.")
    table: tuple[PathValues, ...] = Field(description="Every path's values by probe key; the base first.")
    levels: dict[str, tuple[Level, ...]] = Field(
        description="Null levels and ceilings of the search sets, by probe key."
    )
    ranking: Ranking = Field(description="The paths ranked on the search set, best first.")
    failed: tuple[FailedPath, ...] = Field(description="Paths that could not be measured.")
    confirmation: Confirmation | None = Field(
        description="Results of the best paths on the confirmation set; null if no path was picked."
    )
    race: Race | None = Field(
        default=None,
        description="How the paths left, if they raced; null if every path was asked everything.",
    )
    duration_s: float = Field(description="Duration of this command in seconds, without resumed parts.")

    @property
    def conclusion(self) -> str:
        """The result in one or two sentences."""
        if self.confirmation is not None:
            return self.confirmation.conclusion
        return "No path was confirmed: these are values of the search set, the best of them picked by luck as well."

    def path(self, layers: VisitPath) -> LayerPath:
        """A path of this scan."""
        return LayerPath.of_validated(layers, self.n_layers)
