"""Convert a run's layer paths to chart data."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from dashboard.board import title
from evals.engine import Frozen
from evals.probes import Level, ProbeError, Scoring, get_probe
from evals.scores import PROBE_SUITE
from orchestrator.charts import Measure, PointStatus, Scan, ScanPoint
from orchestrator.charts.records import NullLine
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord
from recipes.layer_path import LayerPath


class Place(Frozen):
    """Position of a candidate in a layer map."""

    candidate: CandidateRecord = Field(description="The candidate.")
    label: str = Field(description="Short name of its path; unique within the run.")
    block: tuple[int, int] | None = Field(description="Its block (i, j); null if it is not a single block.")
    n_added: int = Field(description="Number of layers minus that of the base.")


class LayerMap(Frozen):
    """The layer paths of one run over one base."""

    n_layers: int = Field(description="Number of layers of the base.")
    base: int = Field(description="Position of the base.")
    places: tuple[Place, ...] = Field(description="The candidates that are layer paths of the base.")

    def place(self, label: str) -> Place | None:
        """The place of this label."""
        return next((p for p in self.places if p.label == label), None)


def layer_map(candidates: Sequence[CandidateRecord], base: CandidateRecord) -> LayerMap | None:
    """The layer paths among a run's candidates; None if there are none or the base's layers are unknown."""
    n_layers = base.layers
    if not n_layers:
        return None
    places: list[Place] = []
    labels: set[str] = set()
    for candidate in candidates:
        if candidate.layer_path is None or candidate.position == base.position:
            continue
        if not candidate.layer_path or max(candidate.layer_path) >= n_layers:
            continue
        # The path was validated when planned; validating thousands of paths would delay the page.
        path = LayerPath.model_construct(layers=candidate.layer_path, n_layers=n_layers)
        label = path.label if path.label not in labels else f"{path.label} #{candidate.position}"
        labels.add(label)
        places.append(Place(candidate=candidate, label=label, block=path.block, n_added=path.n_added))
    return LayerMap(n_layers=n_layers, base=base.position, places=tuple(places)) if places else None


def scan_of(
    pages: Pages, run_id: str, name: str, paths: LayerMap, columns: Sequence[Column]
) -> tuple[Scan | None, str | None]:
    """The scan of some columns, or the reason why there is none."""
    values = {title(c): pages.column_scores(run_id, c) for c in columns}
    for text, by_position in values.items():
        if paths.base not in by_position:
            return None, f"The base has no score of {text} yet; differences need one."
    failed = frozenset().union(*(pages.unscored(run_id, c) for c in columns))
    scan = Scan(
        title=name,
        n_layers=paths.n_layers,
        measures=tuple(measure_of(c) for c in columns),
        base={text: by_position[paths.base] for text, by_position in values.items()},
        points=tuple(_point(place, values, failed) for place in paths.places),
    )
    return scan, None


def measure_of(column: Column) -> Measure:
    """The chart measure of a column; probes have null levels and a ceiling."""
    name = title(column)
    if column.suite != PROBE_SUITE:
        return Measure(name=name, title=name, ceiling=100.0, decimals=2)
    levels = probe_levels(column)
    return Measure(
        name=name,
        title=name,
        nulls=tuple(
            NullLine(name=str(level.kind), value=level.value) for level in levels if level.kind.is_null
        ),
        ceiling=max((level.value for level in levels), default=None),
    )


def levels_text(measure: Measure, base: float) -> str:
    """Values of the base, null levels and ceiling, in one line."""
    parts = [f"base {measure.text(base)}"]
    parts += [f"{null.name} answers {measure.text(null.value)}" for null in measure.nulls]
    parts += [] if measure.ceiling is None else [f"ceiling {measure.text(measure.ceiling)}"]
    return " · ".join(parts)


def probe_levels(column: Column) -> tuple[Level, ...]:
    """Null levels and ceiling of a probe; empty if this version of mergeboard defines it differently."""
    try:
        probe = get_probe(column.benchmark)
    except ProbeError:
        return ()
    if probe.digest != column.benchmark_digest:
        return ()
    return tuple(level for level in probe.levels() if level.scoring is Scoring.CORRECTED)


def _point(place: Place, values: dict[str, dict[int, float]], failed: frozenset[int]) -> ScanPoint:
    position = place.candidate.position
    measured = {
        text: by_position[position] for text, by_position in values.items() if position in by_position
    }
    status = PointStatus.MEASURED if measured else PointStatus.PENDING
    if not measured and position in failed:
        status = PointStatus.FAILED
    return ScanPoint(
        label=place.label,
        block=place.block,
        n_added=place.n_added,
        status=status,
        values=measured,
        reason="The evaluation failed." if status is PointStatus.FAILED else None,
    )
