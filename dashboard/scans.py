"""A run's layer paths as a scan that charts are drawn from."""

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
    """Where a candidate lies in a layer map."""

    candidate: CandidateRecord = Field(description="The candidate.")
    label: str = Field(description="Short name of its path; unique within the run.")
    block: tuple[int, int] | None = Field(description="Its (i, j); null where no single block makes it.")
    n_added: int = Field(description="Layers more (or, negative, fewer) than the base has.")


class LayerMap(Frozen):
    """The layer paths of one run over one base."""

    n_layers: int = Field(description="Layers of the base.")
    base: int = Field(description="Position of the base.")
    places: tuple[Place, ...] = Field(description="The candidates that are layer paths of the base.")

    def place(self, label: str) -> Place | None:
        """The place of this label."""
        return next((p for p in self.places if p.label == label), None)


def layer_map(candidates: Sequence[CandidateRecord], base: CandidateRecord) -> LayerMap | None:
    """The layer paths among a run's candidates; None where there is none, or the base's layers are not known."""
    n_layers = base.layers
    if not n_layers:
        return None
    places: list[Place] = []
    taken: set[str] = set()
    for candidate in candidates:
        if candidate.layer_path is None or candidate.position == base.position:
            continue
        if not candidate.layer_path or max(candidate.layer_path) >= n_layers:
            continue
        # Checked when it was planned; thousands of paths are checked again in the time of a page.
        path = LayerPath.model_construct(layers=candidate.layer_path, n_layers=n_layers)
        label = path.label if path.label not in taken else f"{path.label} #{candidate.position}"
        taken.add(label)
        places.append(Place(candidate=candidate, label=label, block=path.block, n_added=path.n_added))
    return LayerMap(n_layers=n_layers, base=base.position, places=tuple(places)) if places else None


def scan_of(
    pages: Pages, run_id: str, name: str, found: LayerMap, columns: Sequence[Column]
) -> tuple[Scan | None, str | None]:
    """The scan of some columns; or why there is none."""
    values = {title(c): pages.column_scores(run_id, c) for c in columns}
    for text, by_position in values.items():
        if found.base not in by_position:
            return None, f"The base has no score of {text} yet; differences need one."
    failed = frozenset().union(*(pages.unscored(run_id, c) for c in columns))
    scan = Scan(
        title=name,
        n_layers=found.n_layers,
        measures=tuple(measure_of(c) for c in columns),
        base={text: by_position[found.base] for text, by_position in values.items()},
        points=tuple(_point(place, values, failed) for place in found.places),
    )
    return scan, None


def measure_of(column: Column) -> Measure:
    """A column as charts name it: a probe's with its null levels and its ceiling."""
    name = title(column)
    if column.suite != PROBE_SUITE:
        return Measure(name=name, title=name, ceiling=100.0, decimals=2)
    levels = probe_levels(column)
    return Measure(
        name=name,
        title=name,
        nulls=tuple(
            NullLine(name=str(found.kind), value=found.value) for found in levels if found.kind.is_null
        ),
        ceiling=max((found.value for found in levels), default=None),
    )


def levels_text(measure: Measure, base: float) -> str:
    """What the base, answerers that know nothing, and the best possible answers get, in one line."""
    parts = [f"base {measure.text(base)}"]
    parts += [f"{null.name} answers {measure.text(null.value)}" for null in measure.nulls]
    parts += [] if measure.ceiling is None else [f"ceiling {measure.text(measure.ceiling)}"]
    return " · ".join(parts)


def probe_levels(column: Column) -> tuple[Level, ...]:
    """What answerers without a model get in a probe; none where this version of mergeboard has another probe of the name."""
    try:
        probe = get_probe(column.benchmark)
    except ProbeError:
        return ()
    if probe.digest != column.benchmark_digest:
        return ()
    return tuple(found for found in probe.levels() if found.scoring is Scoring.CORRECTED)


def _point(place: Place, values: dict[str, dict[int, float]], failed: frozenset[int]) -> ScanPoint:
    position = place.candidate.position
    mine = {text: found[position] for text, found in values.items() if position in found}
    status = PointStatus.MEASURED if mine else PointStatus.PENDING
    if not mine and position in failed:
        status = PointStatus.FAILED
    return ScanPoint(
        label=place.label,
        block=place.block,
        n_added=place.n_added,
        status=status,
        values=mine,
        reason="The evaluation failed." if status is PointStatus.FAILED else None,
    )
