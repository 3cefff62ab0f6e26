"""Convert the layer paths of a run, or of a whole scan or search, to chart data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pydantic import Field

from dashboard.board import known_suite, title
from evals.engine import Frozen
from evals.layer_visits import VisitPath
from evals.probes import Level, ProbeError, Ranking, Scoring, get_probe
from evals.scores import PROBE_SUITE
from orchestrator.charts import (
    PROBE_WARNING,
    SMOKE_WARNING,
    Meaning,
    Measure,
    NullLine,
    PointStatus,
    Scan,
    ScanPoint,
)
from orchestrator.compare.scan_runs import probe_key
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateRecord
from recipes.layer_path import LayerPath, map_variant
from recipes.layer_visit import source_layers_of

TOGETHER = "together"
"""Name of the measure that combines all benchmarks or probes; the default."""
FAILED = "Its evaluation failed."


class Place(Frozen):
    """A layer path in a map, and the run that measured it."""

    run_id: str = Field(description="The run.")
    candidate: CandidateRecord = Field(description="The candidate in that run.")
    label: str = Field(description="Short name of its path; unique within the map.")
    block: tuple[int, int] | None = Field(description="Its block (i, j); null if it is not a single block.")
    n_added: int = Field(description="Number of layers minus that of the base.")


class LayerMap(Frozen):
    """The layer paths of one run, or of all runs of a search, over one base."""

    n_layers: int = Field(description="Number of layers of the base.")
    base: int = Field(description="Position of the base in the first run.")
    places: tuple[Place, ...] = Field(description="The candidates that are layer paths of the base.")

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs that measured its paths."""
        return tuple(dict.fromkeys(place.run_id for place in self.places))

    def place(self, label: str) -> Place | None:
        """The place of this label."""
        return next((p for p in self.places if p.label == label), None)


def layer_map(runs: Mapping[str, Sequence[CandidateRecord]], base: CandidateRecord) -> LayerMap | None:
    """The layer paths among the candidates of some runs; None if there are none or the base's layers are unknown.

    A path that several runs measured is taken from the first one.
    """
    n_layers = base.layers
    if not n_layers:
        return None
    places: list[Place] = []
    paths: list[LayerPath] = []
    seen: set[VisitPath] = set()
    labels: set[str] = set()
    for number, (run_id, candidates) in enumerate(runs.items()):
        for candidate in candidates:
            layers = candidate.layer_path
            if (
                not layers
                or candidate.is_base
                or max(source_layers_of(layers)) >= n_layers
                or (number and layers in seen)
            ):
                continue
            seen.add(layers)
            # The path was validated when planned; validating thousands of paths would delay the page.
            path = LayerPath.of_validated(layers, n_layers)
            label = path.label
            if label in labels:
                label = f"{label} #{candidate.position}"
            labels.add(label)
            paths.append(path)
            places.append(
                Place(run_id=run_id, candidate=candidate, label=label, block=None, n_added=path.n_added)
            )
    shown = map_variant(paths)
    blocks = [path.block_of(shown) for path in paths]
    placed = [p.model_copy(update={"block": b}) if b else p for p, b in zip(places, blocks, strict=True)]
    return LayerMap(n_layers=n_layers, base=base.position, places=tuple(placed)) if places else None


def scan_of(
    pages: Pages,
    name: str,
    paths: LayerMap,
    columns: Sequence[Column],
    *,
    ranking: Ranking | None = None,
    confirmed: Mapping[VisitPath, Meaning] | None = None,
    left: Mapping[VisitPath, str] | None = None,
) -> tuple[Scan | None, str | None]:
    """The scan of all columns of one suite, or the reason why there is none.

    With more than one column its first measure combines them: probes in spreads of the `ranking`'s paths,
    benchmarks as their mean. `left` says what is known of the paths that left a race.
    """
    values = _values(pages, paths, columns)
    first = paths.runs[0]
    base: dict[str, float] = {}
    for text, by_place in values.items():
        if (first, paths.base) not in by_place:
            return None, f"The base has no score of {text} yet; differences need one."
        base[text] = by_place[first, paths.base]
    failed = frozenset(
        (run_id, position) for run_id in paths.runs for position in pages.unscored(run_id, columns)
    )
    measures = [measure_of(c) for c in columns]
    together = _together(columns, base, ranking)
    if together is not None:
        measures.insert(0, together)
        base[TOGETHER] = 0.0 if ranking is not None else statistics.fmean(base.values())
    meanings = confirmed or {}
    weights = {title(c): ranking.weights[probe_key(c.benchmark)] for c in columns} if ranking else None
    scan = Scan(
        title=name,
        n_layers=paths.n_layers,
        measures=tuple(measures),
        base=base,
        points=tuple(
            _with_early(
                _point(place, values, failed, base if together else None, weights, meanings),
                place,
                left or {},
            )
            for place in paths.places
        ),
        warning=warning_of(columns[0].suite),
    )
    return scan, None


def _values(
    pages: Pages, paths: LayerMap, columns: Sequence[Column]
) -> dict[str, dict[tuple[str, int], float]]:
    """Values by the title of a column and the place of a path."""
    values: dict[str, dict[tuple[str, int], float]] = {title(c): {} for c in columns}
    for run_id in paths.runs:
        for column, by_position in pages.scores_in_columns(run_id, columns).items():
            values[title(column)].update(((run_id, at), value) for at, value in by_position.items())
    return values


def warning_of(suite: str) -> str | None:
    """What a suite's values must not be taken for; None if nothing."""
    if suite == PROBE_SUITE:
        return PROBE_WARNING
    known = known_suite(suite)
    return SMOKE_WARNING if known is not None and known.smoke else None


def _together(
    columns: Sequence[Column], base: Mapping[str, float], ranking: Ranking | None
) -> Measure | None:
    """The measure that combines the columns; None for one column, or for probes without a ranking."""
    if len(columns) < 2:
        return None
    if columns[0].suite == PROBE_SUITE:
        if ranking is None:
            return None
        return Measure(name=TOGETHER, title="All probes together, in spreads", decimals=2)
    return Measure(name=TOGETHER, title=f"Mean of {len(columns)} benchmarks", ceiling=100.0, decimals=1)


def measure_of(column: Column) -> Measure:
    """The chart measure of a column; probes have null levels and a ceiling."""
    name = title(column)
    if column.suite != PROBE_SUITE:
        return Measure(name=name, title=name, ceiling=100.0, decimals=1)
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


def _point(
    place: Place,
    values: Mapping[str, Mapping[tuple[str, int], float]],
    failed: frozenset[tuple[str, int]],
    base: Mapping[str, float] | None,
    weights: Mapping[str, float] | None,
    confirmed: Mapping[VisitPath, Meaning],
) -> ScanPoint:
    """A path with its values; with `base` also their combination, if it has all of them."""
    at = (place.run_id, place.candidate.position)
    measured = {text: by_place[at] for text, by_place in values.items() if at in by_place}
    if base is not None and len(measured) == len(values):
        measured = {TOGETHER: _combined(measured, base, weights), **measured}
    status = PointStatus.MEASURED if measured else PointStatus.PENDING
    if not measured and at in failed:
        status = PointStatus.FAILED
    return ScanPoint(
        label=place.label,
        block=place.block,
        n_added=place.n_added,
        status=status,
        values=measured,
        reason=FAILED if at in failed else None,
        confirmed=confirmed.get(place.candidate.layer_path or ()),
    )


def _with_early(point: ScanPoint, place: Place, left: Mapping[VisitPath, str]) -> ScanPoint:
    """The point as one that left a race, if it did and has no value."""
    text = left.get(place.candidate.layer_path or ())
    if text is None or point.values:
        return point
    return point.model_copy(update={"status": PointStatus.LEFT, "reason": text})


def _combined(
    measured: Mapping[str, float], base: Mapping[str, float], weights: Mapping[str, float] | None
) -> float:
    """Sum of the differences to the base in spreads of each probe, or the mean of the benchmarks."""
    if weights is None:
        return statistics.fmean(measured.values())
    return sum(weights[text] * (value - base[text]) for text, value in measured.items())
