"""The layer map's selected path with its commands, and the ranking of all paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.board import known_suite
from dashboard.components.code import show_code
from dashboard.components.rows import show_table
from dashboard.pages.leaderboard import scores_of
from dashboard.repeat import base_of, path_command
from dashboard.scan_verdict import ScanVerdict
from dashboard.scans import LayerMap, Place, measure_of
from evals.probes import Finding
from evals.scores import PROBE_SUITE
from orchestrator.charts import MEANINGS, Meaning, Measure, Scan, ScanPoint
from orchestrator.display.format import p_value, parameters
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.pages import Column, Pages

_PER_PAGE = 15
_NEXT_SUITE = "leaderboard-v2"
_RANKING = {
    "Layer path": "The block (i, j) whose layers [i, j) run twice, or another order of layers.",
    "Value": "Value of the chosen measure.",
    "Δ": "Value minus the base's.",
    "Confirmed": "What it shows on the confirmation set, or after the correction for the whole run. Empty: not asked.",
    "Layers": "Layers more (or fewer) than the base.",
    "Rank": "Place among all measured paths; the first ones are picked by luck as well.",
}
_SCORES = {
    "Benchmark": "Benchmark, or probe.",
    "Path": "Value of this layer path.",
    "Base": "Value of the unmodified checkpoint.",
    "Guess": "The best that answers without knowledge (random, constant, echo) get.",
    "Ceiling": "The highest possible value.",
    "n": "Number of questions.",
}


def show_path(
    pages: Pages,
    paths: LayerMap,
    place: Place,
    columns: Sequence[Column],
    label: str,
    verdict: ScanVerdict | None,
) -> None:
    """Draw one path: what is confirmed, the commands that build and evaluate it, its scores, links."""
    run = data.live(pages.run, place.run_id)
    with st.container(border=True, key="path_detail"):
        candidate = place.candidate
        also = f" · {escaped(candidate.name, 60)}" if candidate.name != place.label else ""
        st.markdown(f"{label}: **{escaped(place.label)}**{also}")
        size = f"{candidate.layers} layers, {parameters(candidate.parameters)}"
        st.caption(f"{size}, {place.n_added:+d} against the base's {paths.n_layers}")
        _confirmed(place, verdict)
        suites = list(dict.fromkeys(c.suite for c in columns if known_suite(c.suite) is not None))
        # A probe result has to be confirmed on a leaderboard's suite.
        suites = suites or [_NEXT_SUITE]
        show_code(path_command(candidate, base_of(run), paths.n_layers, suites), "bash")
        rows = _path_scores(pages, paths, place, columns)
        if rows:
            titles = [name for name in _SCORES if name in next(iter(rows.values()))]
            show_table(
                {key: [row[name] for name in titles] for key, row in rows.items()},
                titles,
                key="path_scores",
                name="Scores of the path",
                numbers=titles[1:],
                long=("Benchmark",),
                helps=_SCORES,
            )
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


def _confirmed(place: Place, verdict: ScanVerdict | None) -> None:
    """Draw the confirmation of a path, if it was confirmed."""
    path = verdict.path(place.candidate.layer_path) if verdict else None
    if path is None or verdict is None or verdict.confirmation is None:
        return
    gain, tried = path.confirmation, verdict.confirmation.n_tried
    span = f"[{gain.interval.low:+z.3f}, {gain.interval.high:+z.3f}]"
    mark = MEANINGS[path.finding].mark
    # p of "no loss" for a path that is worse, of "no gain" for all others.
    p = path.p_worse_tried if path.finding is Finding.WORSE else path.p_tried
    st.markdown(
        f"{mark} **{path.finding.value}** on {gain.n} questions of the confirmation set: {gain.delta:+z.3f} {escaped(span)}, "
        f"p × {tried:,} = {p_value(p)}".strip()
    )


def _path_scores(
    pages: Pages, paths: LayerMap, place: Place, columns: Sequence[Column]
) -> dict[str, dict[str, str]]:
    """One path's values beside the base's, by benchmark; for probes also the null level and the ceiling."""
    path_results, base = (
        {(e.suite, e.result.benchmark): e.result for e in scores_of(pages, run_id, at, columns).evaluations}
        for run_id, at in ((place.run_id, place.candidate.position), (paths.runs[0], paths.base))
    )
    rows = {}
    for column in columns:
        key = (column.suite, column.benchmark)
        if key not in path_results:
            continue
        measure, probe = measure_of(column), column.suite == PROBE_SUITE
        values = [
            None if r is None else r.raw if probe else r.normalized
            for r in (path_results[key], base.get(key))
        ]
        row = {
            "Benchmark": measure.title,
            "Path": _text(values[0], measure),
            "Base": _text(values[1], measure),
        }
        if probe:
            row["Guess"] = _text(max((null.value for null in measure.nulls), default=None), measure)
            row["Ceiling"] = _text(measure.ceiling, measure)
        rows[column.benchmark] = row | {"n": f"{path_results[key].n:,}"}
    return rows


def show_ranking(scan: Scan, measure: str, paths: LayerMap, verdict: ScanVerdict | None) -> None:
    """Draw all measured paths by value, best first, confirmed ones above."""
    order = sorted(
        scan.measured(measure), key=lambda p: (p.confirmed is not Meaning.BETTER, -p.values[measure], p.label)
    )
    ranks = _ranks(scan, measure)
    first = address.pager("rank", len(order), _PER_PAGE, "layer paths")
    page = order[first : first + _PER_PAGE]
    shown = scan.measure(measure)
    rows = {
        p.label: {
            "Layer path": line(p.label, 60),
            "Value": shown.text(p.values[measure]),
            "Δ": shown.text(scan.delta(p, measure), sign=True),
            "Confirmed": _finding(p, paths, verdict),
            "Layers": f"{p.n_added:+d}",
            "Rank": f"{ranks[p.label]:,}",
        }
        for p in page
    }
    titles = [name for name in _RANKING if name != "Confirmed" or any(p.confirmed for p in order)]
    show_table(
        {label: [row[name] for name in titles] for label, row in rows.items()},
        titles,
        key="ranking",
        name="Ranking",
        opens="Show this path and its commands",
        on_open=lambda label: address.put(path=label),
        selected=address.value("path"),
        numbers=("Value", "Δ", "Layers", "Rank"),
        helps=_RANKING,
    )
    kind = "" if scan.warning is None else scan.warning.split(" ", 1)[0].lower() + "-"
    widgets.download(
        "Ranking as CSV",
        f"{kind}layer-paths.csv",
        lambda: widgets.csv_of(_flat(scan, paths)),
        "text/csv",
        "ranking_csv",
    )


def _ranks(scan: Scan, measure: str) -> dict[str, int]:
    order = sorted(scan.measured(measure), key=lambda p: (-p.values[measure], p.label))
    return {p.label: place for place, p in enumerate(order, start=1)}


def _finding(point: ScanPoint, paths: LayerMap, verdict: ScanVerdict | None) -> str:
    """What is confirmed of a path, in words."""
    if point.confirmed is None:
        return ""
    place = paths.place(point.label)
    path = verdict.path(place.candidate.layer_path) if verdict and place else None
    words = path.finding.value if path else point.confirmed.value
    return f"{point.confirmed.mark} {words}".strip()


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
            "confirmed": p.confirmed.value if p.confirmed else None,
            **p.values,
            "data": scan.warning,
        }
        for p in scan.points
    ]


def _text(value: float | None, measure: Measure) -> str:
    return "–" if value is None else measure.text(value)
