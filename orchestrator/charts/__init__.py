"""Charts for the command line and the dashboard, each interactive (plotly) and as an image (matplotlib)."""

from orchestrator.charts.deltas import delta_bars, delta_bars_image
from orchestrator.charts.files import Picture, image_bytes, write_html, write_image, write_page
from orchestrator.charts.grid import ColourScale, HeatGrid, heat_grid
from orchestrator.charts.heatmap import heatmap, heatmap_image
from orchestrator.charts.pareto import pareto, pareto_front, pareto_image
from orchestrator.charts.race import RaceLine, RacePicture, RacePoint, race_chart, race_image
from orchestrator.charts.race_data import candidate_race_picture, early_texts, race_picture
from orchestrator.charts.records import (
    MEANINGS,
    PROBE_WARNING,
    SMOKE_WARNING,
    ChartError,
    DeltaBar,
    Measure,
    NullLine,
    PointStatus,
    Scan,
    ScanPoint,
)
from orchestrator.charts.scatter import scatter, scatter_image
from orchestrator.charts.sequence import meaning_of_sequence, sequence_chart, sequence_image
from orchestrator.charts.skyline import Skyline, skyline, skyline_image, skylines
from orchestrator.charts.theme import LOOKS, Meaning, Theme, meaning_of

__all__ = [
    "LOOKS",
    "MEANINGS",
    "PROBE_WARNING",
    "SMOKE_WARNING",
    "ChartError",
    "ColourScale",
    "DeltaBar",
    "HeatGrid",
    "Meaning",
    "Measure",
    "NullLine",
    "Picture",
    "PointStatus",
    "RaceLine",
    "RacePicture",
    "RacePoint",
    "Scan",
    "ScanPoint",
    "Skyline",
    "Theme",
    "candidate_race_picture",
    "delta_bars",
    "delta_bars_image",
    "early_texts",
    "heat_grid",
    "heatmap",
    "heatmap_image",
    "image_bytes",
    "meaning_of",
    "meaning_of_sequence",
    "pareto",
    "pareto_front",
    "pareto_image",
    "race_chart",
    "race_image",
    "race_picture",
    "scatter",
    "scatter_image",
    "sequence_chart",
    "sequence_image",
    "skyline",
    "skyline_image",
    "skylines",
    "write_html",
    "write_image",
    "write_page",
]
