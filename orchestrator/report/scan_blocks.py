"""The parts of a scan's report: confirmation, benchmarks, maps, ranking and null levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.probes import Confirmation, Finding, Measured, Ranking, Scoring, get_probe
from orchestrator.charts import ChartError, Measure, Scan, ScanPoint, heat_grid
from orchestrator.charts.records import NullLine
from orchestrator.display.format import p_value
from orchestrator.report.deltas import SHAPES, signed
from orchestrator.report.page import (
    DeltaLine,
    DeltaTable,
    MapCell,
    ReportCell,
    ReportColumn,
    ReportMap,
    ReportRow,
    ReportTable,
    ReportTone,
)
from orchestrator.report.scan_runs import labels_of
from recipes.layer_path import map_variant

MOST_PATHS = 50
"""Most paths of the ranking that are shown; the map has all blocks."""
_TOGETHER = "together"
_TONES = {
    Finding.REAL: ReportTone.BETTER,
    Finding.WORSE: ReportTone.WORSE,
    Finding.SUGGESTIVE: ReportTone.HINT,
    Finding.NOT_CONFIRMED: ReportTone.PLAIN,
}
_SCORING = Scoring.CORRECTED


def confirmation_block(found: Confirmation, n_layers: int) -> DeltaTable:
    """The confirmed paths: gain on the search set, expected, and confirmed with its interval."""
    labels = labels_of((path.layers for path in found.paths), n_layers)
    rows = tuple(
        DeltaLine(
            label=labels[path.layers].label,
            base=signed(path.search.delta, 3),
            candidate=signed(path.expected, 3),
            delta=path.confirmation.delta,
            low=path.confirmation.interval.low,
            high=path.confirmation.interval.high,
            p=p_value(path.p_worse_tried if path.finding is Finding.WORSE else path.p_tried),
            flips=f"{path.confirmation.n}",
            tone=_TONES[path.finding],
            word=str(path.finding),
        )
        for path in found.paths
    )
    kept = f"{found.shrinkage.search_mean:+z.3f} on the search set, {found.shrinkage.confirmation_mean:+z.3f} on the confirmation set"
    return DeltaTable(
        caption="Confirmed paths",
        first="Layer path",
        headings=("Search Δ", "Expected Δ"),
        flips="Questions",
        p_heading=f"p x {found.n_tried:,}",
        decimals=3,
        unit="of 1",
        rows=rows,
        notes=(
            f"Mean gain of these paths: {kept}.".replace("-", "\N{MINUS SIGN}"),
            f"A true gain of less than about {found.detectable:.3f} would have been missed.",
        ),
    )


def benchmark_block(found: Confirmation, n_layers: int) -> list[ReportTable]:
    """The confirmed paths on benchmarks; empty if none was run."""
    names = list(dict.fromkeys(gain.benchmark for path in found.paths for gain in path.benchmarks))
    if not names:
        return []
    labels = labels_of((path.layers for path in found.paths), n_layers)
    rows = []
    for path in found.paths:
        gains = {gain.benchmark: gain for gain in path.benchmarks}
        cells = []
        for name in names:
            if name not in gains:
                cells.append(ReportCell(text="–"))
                continue
            delta, p = gains[name].delta, gains[name].p_corrected
            real = p < found.alpha
            tone = (
                (ReportTone.BETTER if delta.delta_points > 0 else ReportTone.WORSE)
                if real
                else ReportTone.PLAIN
            )
            cells.append(
                ReportCell(
                    text=f"{delta.candidate:.1f}",
                    value=delta.candidate,
                    delta=f"{SHAPES[tone]}{signed(delta.delta_points)}",
                    tone=tone,
                    hint=f"95 % interval {signed(delta.interval.low)} to {signed(delta.interval.high)}, p {p_value(p)}",
                )
            )
        rows.append(ReportRow(name=labels[path.layers].label, cells=tuple(cells)))
    return [
        ReportTable(
            caption="The same paths on benchmarks",
            first="Layer path",
            columns=tuple(ReportColumn(title=name, narrow=n == 0) for n, name in enumerate(names)),
            rows=tuple(rows),
            notes=(f"p is corrected for {found.n_tried:,} paths x {len(names)} benchmarks.",),
        )
    ]


def map_blocks(
    measured: Sequence[Measured], ranking: Ranking, found: Confirmation | None, n_layers: int
) -> list[ReportMap]:
    """The map of all probes together, and a small one of each probe; empty if no path is a single block."""
    scan = chart_scan(measured, ranking, n_layers)
    if not any(point.block for point in scan.points):
        return []
    marks: dict[tuple[int, int], ReportTone] = {}
    if found is not None:
        labels = labels_of((path.layers for path in found.paths), n_layers)
        shown = map_variant(labels_of((path.layers for path in measured), n_layers).values())
        for path in found.paths:
            block = labels[path.layers].block_of(shown)
            if block is not None:
                marks[block] = _TONES[path.finding]
    blocks = []
    names = [_TOGETHER, *(ranking.probes if len(ranking.probes) > 1 else ())]
    for name in names:
        try:
            blocks.append(_map(scan, name, marks, large=name == _TOGETHER))
        except ChartError:
            continue
    return blocks


def chart_scan(measured: Sequence[Measured], ranking: Ranking, n_layers: int) -> Scan:
    """The scan as chart data, with the measure of all probes together: the sum of the differences over their spreads."""
    base = {r.key: r.value(_SCORING) for r in measured[0].results}
    labels = labels_of((path.layers for path in measured), n_layers)
    shown = map_variant(labels.values())
    points = []
    for path in measured[1:]:
        values = {r.key: r.value(_SCORING) for r in path.results}
        spreads = {key: ranking.spreads[key] if ranking.spreads[key] > 1e-12 else 1.0 for key in base}
        values[_TOGETHER] = sum((values[key] - base[key]) / spreads[key] for key in base)
        label = labels[path.layers]
        points.append(
            ScanPoint(label=label.label, block=label.block_of(shown), n_added=label.n_added, values=values)
        )
    measures = [_measure(r.key, r.probe) for r in measured[0].results]
    return Scan(
        title="scan",
        n_layers=n_layers,
        measures=(*measures, Measure(name=_TOGETHER, title="All probes, in spreads", decimals=2)),
        base={**base, _TOGETHER: 0.0},
        points=tuple(points),
    )


def ranking_block(
    measured: Sequence[Measured], ranking: Ranking, found: Confirmation | None, n_layers: int
) -> ReportTable:
    """The best paths of the search set, with what their confirmation showed."""
    values = {path.layers: {r.key: r.value(_SCORING) for r in path.results} for path in measured}
    shown = ranking.paths[:MOST_PATHS]
    labels = labels_of((path.layers for path in shown), n_layers)
    findings = {path.layers: path.finding for path in found.paths} if found is not None else {}
    rows = []
    for path in shown:
        finding = findings.get(path.layers)
        cells = [
            ReportCell(text=str(path.rank), value=-float(path.rank)),
            ReportCell(
                text=str(finding) if finding is not None else "not asked",
                tone=_TONES[finding] if finding is not None else ReportTone.PLAIN,
            ),
            ReportCell(text=f"{labels[path.layers].n_added:+d}", value=float(labels[path.layers].n_added)),
            *(_value_cell(values[path.layers][key], path.deltas[key]) for key in ranking.probes),
            ReportCell(text=signed(path.score, 2), value=path.score),
        ]
        rows.append(ReportRow(name=labels[path.layers].label, cells=tuple(cells)))
    base = [ReportCell(text="–"), ReportCell(text="base"), ReportCell(text="0", value=0.0)]
    base += [
        ReportCell(text=f"{values[measured[0].layers][k]:.3f}", value=values[measured[0].layers][k])
        for k in ranking.probes
    ]
    rows.insert(0, ReportRow(name="unmodified", cells=(*base, ReportCell(text="–")), pinned=True))
    more = len(ranking.paths) - len(shown)
    return ReportTable(
        caption="Ranking on the search set",
        first="Layer path",
        columns=(
            ReportColumn(title="Rank", help="Rank on the search set."),
            ReportColumn(
                title="Confirmation", help="What the confirmation set showed.", numeric=False, narrow=True
            ),
            ReportColumn(title="Layers", help="Layers added."),
            *(
                ReportColumn(title=key, help="Value, and difference to the checkpoint.")
                for key in ranking.probes
            ),
            ReportColumn(title="Score", help=f"Rank score, {ranking.method}.", narrow=True),
        ),
        rows=tuple(rows),
        notes=(f"and {more:,} more paths",) if more > 0 else (),
    )


def level_block(base: Measured, ranking: Ranking) -> ReportTable:
    """Per probe: the checkpoint's value between the null levels and the ceiling."""
    levels = {
        result.key: {
            str(level.kind): level.value
            for level in get_probe(result.probe).levels()
            if level.scoring is _SCORING
        }
        for result in base.results
    }
    kinds = list(dict.fromkeys(kind for by_kind in levels.values() for kind in by_kind))
    rows = [
        ReportRow(name=r.key, cells=(_plain_cell(r.value(_SCORING)), *(_plain_cell(levels[r.key].get(k)) for k in kinds)))
        for r in base.results
    ]  # fmt: skip
    columns = (
        ReportColumn(title="checkpoint", narrow=True),
        *(ReportColumn(title=kind) for kind in kinds),
    )
    return ReportTable(caption="Null levels", first="Probe", columns=columns, rows=tuple(rows))


def _map(scan: Scan, name: str, marks: Mapping[tuple[int, int], ReportTone], *, large: bool) -> ReportMap:
    grid, measure = heat_grid(scan, name), scan.measure(name)
    cells = []
    for point in scan.points:
        if point.block is None or name not in point.values:
            continue
        delta = scan.delta(point, name)
        text = f"{point.label}: {measure.text(delta, sign=True)}"
        cells.append(
            MapCell(i=point.block[0], j=point.block[1], delta=delta, text=text, mark=marks.get(point.block))
        )
    parts = [f"base {measure.text(scan.base[name])}"] if name != _TOGETHER else []
    best = grid.best
    if best is not None:
        parts.append(f"best {best.label} {measure.text(scan.delta(best, name), sign=True)} (dotted ring)")
    parts += [f"{null.name} answers {measure.text(null.value)}" for null in measure.nulls]
    if grid.clipped:
        parts.append(f"{grid.clipped} cells below the scale")
    return ReportMap(
        title=measure.title,
        subtitle=" · ".join(parts),
        n_layers=scan.n_layers,
        low=grid.low,
        high=grid.high,
        ends=(measure.text(grid.low, sign=True), measure.text(grid.high, sign=True)),
        cells=tuple(cells),
        best=best.block if best is not None else None,
        large=large,
    )


def _measure(key: str, probe: str) -> Measure:
    levels = [level for level in get_probe(probe).levels() if level.scoring is _SCORING]
    nulls = tuple(NullLine(name=str(level.kind), value=level.value) for level in levels if level.kind.is_null)
    return Measure(name=key, title=f"Probe {key}", nulls=nulls)


def _value_cell(value: float, delta: float) -> ReportCell:
    return ReportCell(text=f"{value:.3f}", value=value, delta=signed(delta, 3))


def _plain_cell(value: float | None) -> ReportCell:
    return ReportCell(text="–" if value is None else f"{value:.3f}", value=value)
