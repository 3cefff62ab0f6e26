"""Layer map page: heatmaps, skylines, scatter and Pareto front of a run's layer paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import streamlit as st

from dashboard import address, charts, data, widgets
from dashboard.address import View
from dashboard.board import known_suite, title
from dashboard.pages.leaderboard import scope, scores_of
from dashboard.repeat import base_of, path_command
from dashboard.scans import LayerMap, Place, layer_map, levels_text, measure_of, scan_of
from evals.scores import PROBE_SUITE
from orchestrator.charts import (
    ChartError,
    ColourScale,
    PointStatus,
    Scan,
    ScanPoint,
    Theme,
    heatmap,
    heatmap_image,
    pareto,
    pareto_image,
    scatter,
    scatter_image,
    skyline,
    skyline_image,
)
from orchestrator.display.format import parameters
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import ENDED, RunRecord

_PER_PAGE = 15
_NEXT_SUITE = "leaderboard-v2"


class Picture(StrEnum):
    """The kinds of charts."""

    HEATMAP = "heatmap"
    SKYLINE = "skyline"
    SCATTER = "scatter"
    PARETO = "pareto"


_NAMES = {
    Picture.HEATMAP: "Heatmap",
    Picture.SKYLINE: "Skylines",
    Picture.SCATTER: "Two measures",
    Picture.PARETO: "Added layers and Pareto front",
}
_SCALES = {ColourScale.OWN: "Own", ColourScale.PUBLISHED: "As published", ColourScale.FULL: "Full"}
_HEIGHTS = {Picture.HEATMAP: 660}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Layer map", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message("No runs yet", "There are no layer paths.", command="mergeboard scan CHECKPOINT")
        return
    columns = data.fixed(pages.columns, run.id)
    base = data.fixed(pages.base_of, run.id)
    paths = data.fixed(_map_of, pages, run.id) if base is not None else None
    if not columns or base is None or paths is None:
        widgets.show_message(
            "No layer paths in this run",
            "A map needs candidates that are layer paths of the base, for example from a scan.",
            command="mergeboard scan CHECKPOINT",
        )
        return
    scoped = scope(columns)
    picture, first, second = _controls(scoped)
    measured = [first, second] if picture is Picture.SCATTER and second is not None else [first]
    kept = data.fixed if run.state in ENDED else data.slow
    scan, why = kept(_scan_of, pages, run.id, tuple(measured))
    if scan is None:
        widgets.show_message("Nothing to draw yet", why or "There are no scores.")
        return
    _progress(scan, first)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        chosen = _picture(run, scan, picture, title(first), title(second) if second else None)
        if chosen is not None and chosen != address.value("path"):
            address.put(path=chosen)
    with right:
        _ranking(scan, title(first), paths)
        place = paths.place(address.value("path")) or _best(scan, title(first), paths)
        if place is not None and not charts.put_off():
            _path(pages, run, paths, place, scoped)


def _map_of(pages: Pages, run_id: str) -> LayerMap | None:
    base = pages.base_of(run_id)
    return None if base is None else layer_map(pages.candidates(run_id), base)


def _scan_of(pages: Pages, run_id: str, columns: tuple[Column, ...]) -> tuple[Scan | None, str | None]:
    """The scan of some columns. Arguments are part of the cache key and must be short."""
    base, paths = data.fixed(pages.base_of, run_id), data.fixed(_map_of, pages, run_id)
    assert base is not None
    assert paths is not None
    name = base_of(pages.run(run_id)) or base.name
    return scan_of(pages, run_id, line(name, 60), paths, columns)


def _controls(columns: Sequence[Column]) -> tuple[Picture, Column, Column | None]:
    named = {c.benchmark: c for c in columns}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picture = Picture(
            address.segments(
                "Picture", "picture", [p.value for p in Picture], label_of=lambda p: _NAMES[Picture(p)]
            )
        )
        first = address.choose("Measure", "measure", list(named), label_of=lambda b: title(named[b]))
        second = None
        others = [b for b in named if b != first]
        if picture is Picture.SCATTER and others:
            second = address.choose("Against", "against", others, label_of=lambda b: title(named[b]))
    return picture, named[first], named[second] if second else None


def _progress(scan: Scan, column: Column) -> None:
    counts = {status: sum(p.status is status for p in scan.points) for status in PointStatus}
    text = f"{counts[PointStatus.MEASURED]:,} of {len(scan.points):,} layer paths measured"
    if counts[PointStatus.FAILED]:
        text += f", {counts[PointStatus.FAILED]:,} failed"
    what = "Normalized scores, 0 is random guessing"
    if column.suite == PROBE_SUITE:
        what = "Probe values, 0 to 1, which are no benchmark's scores"
    st.caption(f"{text}. {what}. What stands out of thousands is picked by luck as well: confirm it.")
    measure = scan.measure(title(column))
    if measure.nulls:
        st.caption(f"What the values mean: {levels_text(measure, scan.base[measure.name])}")


def _picture(run: RunRecord, scan: Scan, picture: Picture, first: str, second: str | None) -> str | None:
    """Draw the chart; returns the label of the clicked path."""
    if picture is Picture.SCATTER and second is None:
        st.caption("There is only one measure in this run; a scatter needs two.")
        return None
    theme, scale = widgets.theme(), _scale() if picture is Picture.HEATMAP else ColourScale.OWN
    drawn: dict[Picture, tuple[Callable[[], Any], Callable[[], Any]]] = {
        Picture.HEATMAP: (
            lambda: _clickable(scan, first, theme, scale),
            lambda: heatmap_image(scan, first, theme, scale),
        ),
        Picture.SKYLINE: (lambda: skyline(scan, first, theme), lambda: skyline_image(scan, first, theme)),
        Picture.SCATTER: (
            lambda: scatter(scan, first, second or first, theme),
            lambda: scatter_image(scan, first, second or first, theme),
        ),
        Picture.PARETO: (lambda: pareto(scan, first, theme), lambda: pareto_image(scan, first, theme)),
    }
    draw, image = drawn[picture]

    def selectable() -> Any:
        return draw().update_layout(clickmode="event+select", dragmode=False)

    try:
        selected = charts.plot(
            selectable,
            f"map_{picture}",
            height=_HEIGHTS.get(picture, 620),
            alt=f"{_NAMES[picture]} of the layer paths",
            select=True,
        )
    except ChartError as error:
        widgets.show_message("This cannot be drawn", str(error))
        return None
    charts.images(f"map_{picture}", f"{picture}-{run.id}", image)
    return _clicked(selected) if selected is not None else None


def _scale() -> ColourScale:
    """Draw the choice of the colour scale."""
    chosen = address.segments(
        "Colours", "colours", list(ColourScale), label_of=lambda s: _SCALES[ColourScale(s)]
    )
    return ColourScale(chosen)


def _clickable(scan: Scan, measure: str, theme: Theme, scale: ColourScale) -> Any:
    """The heatmap with invisible markers over its cells, because heatmap cells cannot be selected."""
    import plotly.graph_objects as go

    figure = heatmap(scan, measure, theme, scale)
    blocks = [p for p in scan.points if p.block is not None]
    figure.add_trace(
        go.Scatter(
            x=[p.block[1] for p in blocks if p.block],
            y=[p.block[0] for p in blocks if p.block],
            customdata=[p.label for p in blocks],
            mode="markers",
            marker={"symbol": "square", "size": max(4.0, 480 / (scan.n_layers + 1)), "opacity": 0.0},
            selected={"marker": {"opacity": 0.0}},
            unselected={"marker": {"opacity": 0.0}},
            # Points without hover cannot be clicked: the markers show the hover text of the cells.
            text=[_hover(scan, p, measure) for p in blocks],
            hovertemplate="<b>%{customdata}</b><br>%{text}<extra></extra>",
            showlegend=False,
        )
    )
    # The map is square: align it to the top of its container.
    return figure.update_yaxes(constraintoward="top")


def _hover(scan: Scan, point: ScanPoint, measure: str) -> str:
    if measure not in point.values:
        return point.status.value
    shown = scan.measure(measure)
    return f"{shown.text(point.values[measure])}, {shown.text(scan.delta(point, measure), sign=True)} to the base"


def _clicked(selected: Any) -> str | None:
    for point in selected.selection.points:
        label = point.get("customdata")
        while isinstance(label, list) and label:
            label = label[0]
        if isinstance(label, str):
            return label
    return None


def _ranking(scan: Scan, measure: str, paths: LayerMap) -> None:
    """Draw all measured paths by value, best first."""
    order = sorted(scan.measured(measure), key=lambda p: (-p.values[measure], p.label))
    first = address.pager("rank", len(order), _PER_PAGE, "layer paths")
    page = order[first : first + _PER_PAGE]
    rows = [
        {
            "Rank": first + number,
            "Layer path": line(p.label, 60),
            "Value": scan.measure(measure).text(p.values[measure]),
            "To the base": scan.measure(measure).text(scan.delta(p, measure), sign=True),
            "Added": p.n_added,
        }
        for number, p in enumerate(page, start=1)
    ]
    selected = widgets.table(
        rows,
        "ranking",
        select=("single-row", "single-cell"),
        height=widgets.table_height(min(len(rows), 8)),
        name="Ranking",
    )
    for index in widgets.picked(selected, len(page)):
        if page[index].label != address.value("path"):
            address.put(path=page[index].label)
    widgets.download(
        "Ranking as CSV",
        "layer-paths.csv",
        lambda: widgets.csv_of(_flat(scan, paths)),
        "text/csv",
        "ranking_csv",
    )


def _flat(scan: Scan, paths: LayerMap) -> list[dict[str, Any]]:
    by_label = {place.label: place for place in paths.places}
    return [
        {
            "layer_path": p.label,
            "candidate": by_label[p.label].candidate.name,
            "i": p.block[0] if p.block else None,
            "j": p.block[1] if p.block else None,
            "layers_added": p.n_added,
            "status": p.status.value,
            **p.values,
        }
        for p in scan.points
    ]


def _best(scan: Scan, measure: str, paths: LayerMap) -> Place | None:
    measured = scan.measured(measure)
    return paths.place(max(measured, key=lambda p: p.values[measure]).label) if measured else None


def _path(pages: Pages, run: RunRecord, paths: LayerMap, place: Place, columns: Sequence[Column]) -> None:
    """Draw one path: scores, link to its samples, and commands that build and evaluate it."""
    with st.container(border=True, key="path_detail"):
        candidate = place.candidate
        also = f" · {escaped(candidate.name, 60)}" if candidate.name != place.label else ""
        st.markdown(f"**{escaped(place.label)}**{also}")
        size = f"{candidate.layers} layers, {parameters(candidate.parameters)}"
        st.caption(f"{size}, {place.n_added:+d} against the base's {paths.n_layers}")
        rows = _path_scores(pages, run, paths, place, columns)
        if rows:
            narrow = {"Benchmark": st.column_config.TextColumn(width=110)}
            widgets.table(rows, "path_scores", columns=narrow, name="Scores of the path")
        with st.container(horizontal=True):
            address.link(
                View.COMPARE,
                "Compare with the base, down to the samples",
                run=run.id,
                cand=candidate.position,
                suite=address.value("suite"),
                engine=address.value("engine"),
            )
            address.link(View.JOB, "Its jobs", run=run.id, of=candidate.position)
        suites = list(dict.fromkeys(c.suite for c in columns if known_suite(c.suite) is not None))
        # A probe result has to be confirmed on a leaderboard's suite.
        suites = suites or [_NEXT_SUITE]
        st.code(
            path_command(candidate, base_of(run), paths.n_layers, suites), language="bash", wrap_lines=True
        )


def _path_scores(
    pages: Pages, run: RunRecord, paths: LayerMap, place: Place, columns: Sequence[Column]
) -> list[dict[str, Any]]:
    """One path's values beside the base's; for probes also the null level and the ceiling."""
    path_results, base = (
        {(e.suite, e.result.benchmark): e.result for e in scores_of(pages, run.id, at, columns).evaluations}
        for at in (place.candidate.position, paths.base)
    )
    rows = []
    for column in columns:
        key = (column.suite, column.benchmark)
        if key not in path_results:
            continue
        measure, probe = measure_of(column), column.suite == PROBE_SUITE
        values = [
            None if r is None else (r.raw if probe else r.normalized)
            for r in (path_results[key], base.get(key))
        ]
        texts = ["–" if value is None else measure.text(value) for value in values]
        row: dict[str, Any] = {"Benchmark": measure.title, "Path": texts[0], "Base": texts[1]}
        if probe:
            nulls = [null.value for null in measure.nulls]
            row["Knowing nothing"] = measure.text(max(nulls)) if nulls else "–"
            row["Ceiling"] = "–" if measure.ceiling is None else measure.text(measure.ceiling)
        rows.append(row | {"n": path_results[key].n})
    return rows
