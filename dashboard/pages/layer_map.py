"""Layer map page: the verdict, then heatmap, skylines, scatter or Pareto front of a run's or a whole scan's layer paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import streamlit as st

from dashboard import address, charts, data, widgets
from dashboard.board import title
from dashboard.pages.clickable_heatmap import clickable_heatmap, clicked_label
from dashboard.pages.layer_paths import show_path, show_ranking
from dashboard.pages.leaderboard import scope
from dashboard.races import race_shown
from dashboard.repeat import base_of
from dashboard.report_button import report_button
from dashboard.scan_verdict import (
    ScanVerdict,
    link_confirmed_benchmarks,
    scan_of_run,
    scan_verdict,
    show_scan_verdict,
)
from dashboard.scans import TOGETHER, LayerMap, Place, layer_map, levels_text, scan_of
from dashboard.verdict import WholeVerdict, show_verdict, verdict_of_run
from evals.layer_visits import VisitPath
from evals.scores import PROBE_SUITE
from orchestrator.charts import (
    SMOKE_WARNING,
    ChartError,
    ColourScale,
    Meaning,
    PointStatus,
    RacePicture,
    Scan,
    early_texts,
    heatmap_image,
    pareto,
    pareto_image,
    race_chart,
    race_image,
    scatter,
    scatter_image,
    skyline,
    skyline_image,
)
from orchestrator.compare.races import race_of_run
from orchestrator.compare.scan_runs import ScanRuns, search_ranking
from orchestrator.compare.verdict import Standing
from orchestrator.display.text_safety import line
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import RunRecord

_REFRESH_S = 5.0
_SPREADS = "Sum over the probes of the difference to the base, each divided by the spread (standard deviation) of all paths"


class Picture(StrEnum):
    """The kinds of charts."""

    HEATMAP = "heatmap"
    SKYLINE = "skyline"
    SCATTER = "scatter"
    PARETO = "pareto"
    RACE = "race"


_NAMES = {
    Picture.HEATMAP: "Heatmap",
    Picture.SKYLINE: "Skylines",
    Picture.SCATTER: "Two measures",
    Picture.PARETO: "Pareto front",
    Picture.RACE: "Race",
}
_SCALES = {ColourScale.OWN: "Own", ColourScale.PUBLISHED: "As published", ColourScale.FULL: "Full"}
_HEIGHTS = {Picture.HEATMAP: 700}
_MEANINGS = {
    Standing.BETTER: Meaning.BETTER,
    Standing.WORSE: Meaning.WORSE,
    Standing.UNSHOWN: Meaning.NEUTRAL,
    Standing.REFUSED: Meaning.REFUSED,
}


@dataclass(frozen=True)
class _Whole:
    """What the page shows: the runs that belong together, their paths, and what is confirmed of them."""

    runs: tuple[RunRecord, ...]
    columns: tuple[Column, ...]
    paths: LayerMap
    scan: ScanRuns | None
    verdict: ScanVerdict | None
    standings: WholeVerdict | None
    race: RacePicture | None

    @property
    def confirmed(self) -> dict[VisitPath, Meaning]:
        """What the confirmation, or the comparison of the whole run, shows of each path."""
        if self.verdict is not None:
            return self.verdict.meanings()
        if self.standings is None or not self.standings.verdict.complete:
            return {}
        meanings = {at: _MEANINGS.get(standing) for at, standing in self.standings.standings.items()}
        return {
            place.candidate.layer_path: meaning
            for place in self.paths.places
            if (meaning := meanings.get(place.candidate.position)) and place.candidate.layer_path
        }


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Layer map", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message("No runs yet", "There are no layer paths.", command="mergeboard scan CHECKPOINT")
        return
    columns = data.fixed(pages.columns, run.id)
    if not columns:
        _nothing()
        return
    scoped = scope(columns)
    whole = _whole(pages, run, scoped)
    if whole is None:
        _nothing()
        return
    scan, why = _scan(pages, whole)
    _verdict(whole, scan)
    with st.container(horizontal=True, vertical_alignment="center"):
        report_button(run.name, run_id=run.id)
        link_confirmed_benchmarks(pages, whole.scan)
    if scan is None:
        widgets.show_message("Nothing to draw yet", why or "There are no scores.")
        return
    picture, first, second = _controls(scan, whole)
    _progress(scan, first, whole)
    _body(pages, whole, scan, (picture, first, second))


def _nothing() -> None:
    widgets.show_message(
        "No layer paths in this run",
        "A map needs candidates that are layer paths of the base, for example from a scan.",
        command="mergeboard scan CHECKPOINT",
    )


def _whole(pages: Pages, run: RunRecord, scoped: tuple[Column, ...]) -> _Whole | None:
    """The runs that belong together with this one; None if there is no layer path or no base."""
    scan = scan_of_run(pages, run) if scoped[0].suite == PROBE_SUITE else None
    ids = (scan.searches if scan else ()) or (run.id,)
    columns = scoped
    if ids[0] != run.id:
        columns = tuple(c for c in data.fixed(pages.columns, ids[0]) if c.suite == PROBE_SUITE)
        columns = tuple(c for c in columns if c.engine_key == scoped[0].engine_key)
    paths = data.fixed(_map_of, pages, ids)
    if paths is None or not columns:
        return None
    return _Whole(
        runs=tuple(data.live(pages.run, run_id) for run_id in ids),
        columns=columns,
        paths=paths,
        scan=scan,
        verdict=scan_verdict(pages, scan) if scan else None,
        standings=None if scan else verdict_of_run(pages, run, column=scoped[0]),
        race=race_shown(pages, ids[0]) if scan else None,
    )


def _map_of(pages: Pages, run_ids: tuple[str, ...]) -> LayerMap | None:
    base = pages.base_of(run_ids[0])
    runs = {run_id: pages.candidates(run_id) for run_id in run_ids}
    return None if base is None else layer_map(runs, base)


def _scan(pages: Pages, whole: _Whole) -> tuple[Scan | None, str | None]:
    """The chart data, with what is confirmed."""
    ids = tuple(run.id for run in whole.runs)
    scan, why = data.of_runs(_scan_of, whole.runs, pages, ids, whole.columns, whole.scan)
    if scan is None:
        return None, why
    confirmed = whole.confirmed
    if not confirmed:
        return scan, None
    by_label = {place.label: confirmed.get(place.candidate.layer_path or ()) for place in whole.paths.places}
    points = tuple(
        p if by_label[p.label] is None else p.model_copy(update={"confirmed": by_label[p.label]})
        for p in scan.points
    )
    return scan.model_copy(update={"points": points}), None


def _scan_of(
    pages: Pages, run_ids: tuple[str, ...], columns: tuple[Column, ...], scan: ScanRuns | None
) -> tuple[Scan | None, str | None]:
    """The scan of some runs. Arguments are part of the cache key and must be short."""
    paths = data.fixed(_map_of, pages, run_ids)
    assert paths is not None
    ranking = race = None
    if columns[0].suite == PROBE_SUITE and scan is not None:
        race = race_of_run(pages, pages.run(run_ids[0]), data.settings().home)
        ranking = search_ranking(pages, run_ids[0], scan.rank, race)
    name = base_of(pages.run(run_ids[0])) or "base"
    left = early_texts(race) if race is not None else {}
    return scan_of(pages, line(name, 60), paths, columns, ranking=ranking, left=left)


def _verdict(whole: _Whole, scan: Scan | None) -> None:
    if whole.verdict is not None:
        show_scan_verdict(whole.verdict, scan.warning if scan else None)
    elif whole.standings is not None:
        smoke = bool(scan and scan.warning == SMOKE_WARNING)
        show_verdict(
            whole.standings.verdict,
            n_waiting=whole.standings.n_waiting,
            remaining_s=whole.standings.remaining_s,
            smoke=smoke,
            counts=True,
        )


def _controls(scan: Scan, whole: _Whole) -> tuple[Picture, str, str | None]:
    """Draw the choice of measure and picture; returns them, and the second measure of a scatter."""
    names = {c.benchmark: title(c) for c in whole.columns}
    if any(m.name == TOGETHER for m in scan.measures):
        names = {TOGETHER: TOGETHER, **names}
    titles = {name: scan.measure(measure).title for name, measure in names.items()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = address.choose(
            "Measure",
            "measure",
            list(names),
            label_of=lambda name: titles[name],
            help_text="What the colours show; all probes or benchmarks together by default.",
        )
        picture = Picture(
            address.segments(
                "Picture",
                "picture",
                [p.value for p in Picture if p is not Picture.RACE or whole.race is not None],
                label_of=lambda p: _NAMES[Picture(p)],
            )
        )
        second = None
        others = [name for name in names if name != first]
        if picture is Picture.SCATTER and others:
            second = address.choose("Against", "against", others, label_of=lambda name: titles[name])
        if picture is Picture.HEATMAP:
            address.segments(
                "Colours", "colours", list(ColourScale), label_of=lambda s: _SCALES[ColourScale(s)]
            )
    return picture, names[first], names[second] if second else None


def _progress(scan: Scan, measure: str, whole: _Whole) -> None:
    """Draw one line: how many paths have a value, and what the values mean."""
    shown = scan.measure(measure)
    measured = len(scan.measured(measure))
    failed = sum(p.status is PointStatus.FAILED for p in scan.points)
    parts = [f"{measured:,} of {len(scan.points):,} layer paths measured"]
    parts += [f"{failed:,} failed"] if failed else []
    left = sum(p.status is PointStatus.LEFT for p in scan.points)
    parts += [f"{left:,} left the race: estimates from a part of the questions, no values"] if left else []
    if measure == TOGETHER and whole.columns[0].suite == PROBE_SUITE:
        parts.append(f"{_SPREADS}; 0 is the base")
    else:
        parts.append(levels_text(shown, scan.base[measure]))
    if len(whole.runs) > 1:
        parts.append(f"{len(whole.runs)} runs of one search")
    st.caption(" · ".join(parts))


def _body(pages: Pages, whole: _Whole, scan: Scan, shown: tuple[Picture, str, str | None]) -> None:
    """Draw the picture beside the selected path and the ranking."""
    picture, first, second = shown
    requested = address.value("path")
    selected = whole.paths.place(requested) if requested else None
    if requested and selected is None:
        st.warning(f"This map has no layer path {line(requested, 60)}; the best one is shown.")
    place = selected or _best(scan, first, whole.paths)
    left, right = st.columns([3, 2], gap="medium")
    with right:
        if place is not None:
            label = "Selected" if selected else "Best"
            show_path(pages, whole.paths, place, whole.columns, label, whole.verdict)
        show_ranking(scan, first, whole.paths, whole.verdict)
    with left:
        _picture(whole, scan, picture, (first, second), selected)


def _best(scan: Scan, measure: str, paths: LayerMap) -> Place | None:
    """The best confirmed path, else the best one."""
    measured = scan.measured(measure)
    confirmed = [p for p in measured if p.confirmed is Meaning.BETTER]
    points = confirmed or measured
    return paths.place(max(points, key=lambda p: p.values[measure]).label) if points else None


def _picture(
    whole: _Whole,
    scan: Scan,
    picture: Picture,
    measures: tuple[str, str | None],
    selected: Place | None,
) -> None:
    """Draw the chart with its downloads; a click on a path selects it."""
    first, second = measures
    if picture is Picture.SCATTER and second is None:
        st.caption("There is only one measure in this run; a scatter needs two.")
        return
    theme, scale = widgets.theme(), ColourScale.OWN
    if address.value("colours") in list(ColourScale):
        scale = ColourScale(address.value("colours"))
    block = selected.block if selected else None
    drawn: Mapping[Picture, tuple[Callable[[], Any], Callable[[], Any]]] = {
        Picture.HEATMAP: (
            lambda: clickable_heatmap(scan, first, theme, scale, block),
            lambda: heatmap_image(scan, first, theme, scale, selected=block),
        ),
        Picture.SKYLINE: (lambda: skyline(scan, first, theme), lambda: skyline_image(scan, first, theme)),
        Picture.SCATTER: (
            lambda: scatter(scan, first, second or first, theme),
            lambda: scatter_image(scan, first, second or first, theme),
        ),
        Picture.PARETO: (lambda: pareto(scan, first, theme), lambda: pareto_image(scan, first, theme)),
    }
    if whole.race is not None:
        race = whole.race
        drawn = {**drawn, Picture.RACE: (lambda: race_chart(race, theme), lambda: race_image(race, theme))}
    draw, image = drawn[picture]

    def selectable() -> Any:
        figure = draw().update_layout(clickmode="event+select", dragmode=False)
        # The page says what is shown, in lines that wrap; the images have the title.
        return figure if picture is Picture.HEATMAP else figure.update_layout(title=None, margin_t=40)

    try:
        charts.plot(
            selectable,
            f"map_{picture}",
            height=_HEIGHTS.get(picture, 620),
            alt=f"{_NAMES[picture]} of the layer paths; the table beside it holds the same values",
            on_select=_select,
        )
    except ChartError as error:
        widgets.show_message("This cannot be drawn", str(error))
        return
    charts.images(f"map_{picture}", file_name(scan, f"{picture}-{whole.runs[0].id}"), image)


def _select(clicked: Any) -> None:
    label = clicked_label(clicked)
    if label is not None:
        address.put(path=label)


def file_name(scan: Scan, name: str) -> str:
    """A download's file name; what its values must not be taken for comes first."""
    kind = "" if scan.warning is None else scan.warning.split(" ", 1)[0].lower() + "-"
    return f"{kind}{name}"
