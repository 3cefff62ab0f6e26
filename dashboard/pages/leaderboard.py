"""Leaderboard page: recipes x benchmarks, with differences to a base, intervals, significance, cost, size."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.board import MEAN, NAME, Row, Shown, Tint, cells, flat, known_suite, reasons, tint, title
from dashboard.comparisons import Comparer, PairResult, comparer, comparisons_of_run
from evals.scores import PROBE_SUITE
from orchestrator.compare import SIGNIFICANT, Comparison, correction_text
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.leaderboard import CandidateScores, LeaderboardQuery, SortKey
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import ENDED, CandidateRecord, RunRecord

_PER_PAGE = 25
_REFRESH_S = 2.0
_SORTS = {
    "position": "Order of the sweep",
    "name": "Name",
    "mean": "Mean of the benchmarks",
    "layers": "Layers",
    "parameters": "Parameters",
}
_SHOWN = {
    Shown.POINTS: "Score and delta_points",
    Shown.PERCENT: "Score and delta_percent",
    Shown.SCORES: "Scores only",
}


@dataclass(frozen=True)
class _View:
    """The state of the leaderboard's controls."""

    run: RunRecord
    base: CandidateRecord
    columns: tuple[Column, ...]
    query: LeaderboardQuery
    shown: Shown
    pins: tuple[int, ...]


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Leaderboard", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message("No runs yet", "There is nothing to rank.", command="mergeboard run SWEEP.yaml")
        return
    # Probe values are not benchmark scores: the layer map shows them with their null levels.
    all_columns = data.fixed(pages.columns, run.id)
    columns = tuple(column for column in all_columns if column.suite != PROBE_SUITE)
    base = base_candidate(pages, run)
    if all_columns and not columns:
        widgets.show_message(
            "Probes only", "This run asked probes, which are no benchmarks: see its layer map."
        )
        return
    if not columns or base is None:
        widgets.show_message(
            "No evaluations", "This run scores nothing, so that there is no leaderboard of it."
        )
        return
    view = _controls(run, base, columns)
    comparing = comparer(pages, f"{pages.serial}", data.settings().home)
    live = None if run.state in ENDED and view.shown is Shown.SCORES else _REFRESH_S
    address.left_by_go(lambda: st.fragment(_board, run_every=live)(pages, comparing, view))


def base_candidate(pages: Pages, run: RunRecord) -> CandidateRecord | None:
    """The base of the URL, or the run's own."""
    if address.value("base"):
        chosen = data.fixed(pages.candidate, run.id, address.number("base"))
        if chosen is not None:
            return chosen
    return data.fixed(pages.base_of, run.id)


def scope(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns of one suite and one engine; draws a choice if there are several."""
    suites = list(dict.fromkeys(c.suite for c in columns))
    engines = {c.engine_key: c.engine for c in columns}
    suite, engine = suites[0], next(iter(engines))
    if len(suites) > 1:
        suite = address.choose(
            "Suite", "suite", suites, label_of=_suite_title, resets=("page", "bench", "sort")
        )
    if len(engines) > 1:
        engine = address.choose(
            "Engine", "engine", list(engines), label_of=lambda key: engines[key], resets=("page",)
        )
    return tuple(c for c in columns if c.suite == suite and c.engine_key == engine)


def scores_of(pages: Pages, run_id: str, position: int, columns: Sequence[Column]) -> CandidateScores:
    """A candidate's scores in these columns."""
    scores = data.live(pages.candidate_scores, run_id, position)
    return within(scores, columns)


def within(scores: CandidateScores, columns: Sequence[Column]) -> CandidateScores:
    """The scores with the evaluations of these columns only."""
    keys = {(c.suite, c.benchmark, c.engine_digest) for c in columns}
    kept = tuple(e for e in scores.evaluations if (e.suite, e.result.benchmark, e.engine_digest) in keys)
    return scores.model_copy(update={"evaluations": kept})


def _suite_title(name: str) -> str:
    suite = known_suite(name)
    return line(suite.title if suite else name, 60)


def _controls(run: RunRecord, base: CandidateRecord, columns: tuple[Column, ...]) -> _View:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoped = scope(columns)
        text = address.search("Search", "q", "part of a recipe's name", resets=("page",))
        sorts = {**_SORTS, **{f"benchmark:{c.benchmark}": title(c) for c in scoped}}
        sort = address.choose(
            "Sort by", "sort", list(sorts), label_of=lambda key: sorts[key], resets=("page",)
        )
        descending = address.switch("Largest first", "desc", resets=("page",))
        shown = address.segments(
            "Cells", "cells", [s.value for s in Shown], label_of=lambda s: _SHOWN[Shown(s)]
        )
    kind, _, benchmark = sort.partition(":")
    query = LeaderboardQuery(
        run_id=run.id,
        suite=scoped[0].suite if scoped else None,
        engine_digest=scoped[0].engine_digest if scoped else None,
        sort=SortKey(kind),
        benchmark=benchmark or None,
        descending=descending,
        search=text or None,
        limit=_PER_PAGE,
    )
    pins = tuple(int(p) for p in address.value("pins").split(",") if p.isascii() and p.isdigit())[:20]
    return _View(run=run, base=base, columns=scoped, query=query, shown=Shown(shown), pins=pins)


def _board(pages: Pages, comparing: Comparer, view: _View) -> None:
    """Draw the table with legend and downloads; refreshed while the run or comparisons are unfinished."""
    total = data.live(pages.leaderboard, view.query.model_copy(update={"limit": 1})).total
    first = address.pager("page", total, _PER_PAGE, "recipes")
    rows, pending = _rows(pages, comparing, view, first)
    if len(rows) == 1 and view.query.search:
        widgets.show_message("Nothing found", "No recipe of this run has a name that contains this text.")
        return
    # A container of its own, so that the table keeps its identity when the sentence appears.
    with st.container():
        _finding(view, rows)
    _table(view, rows)
    _legend(view, rows, pending)
    _downloads(view, rows)


def _rows(pages: Pages, comparing: Comparer, view: _View, first: int) -> tuple[list[Row], int]:
    """Rows of the base, pinned candidates and the page; and the number of unfinished comparisons."""
    page = data.live(pages.leaderboard, view.query.model_copy(update={"offset": first}))
    base = scores_of(pages, view.run.id, view.base.position, view.columns)
    positions = [p for p in view.pins if p != view.base.position]
    pinned_positions = [p for p in positions if data.fixed(pages.candidate, view.run.id, p) is not None]
    pinned = [scores_of(pages, view.run.id, p, view.columns) for p in pinned_positions]
    others = [
        s
        for s in page.rows
        if s.candidate.position != view.base.position and s.candidate.position not in pinned_positions
    ]
    if view.shown is Shown.SCORES:
        comparisons: dict[int, PairResult] = {}
        pending = 0
    else:
        positions = [s.candidate.position for s in (*pinned, *others)]
        comparisons, pending = comparisons_of_run(
            pages, comparing, view.run.id, view.base.position, view.columns[0], positions
        )
    rows = [Row(scores=base, result=None, is_base=True)]
    rows += [Row(scores=s, result=comparisons.get(s.candidate.position), pinned=True) for s in pinned]
    return rows + [Row(scores=s, result=comparisons.get(s.candidate.position)) for s in others], pending


def _finding(view: _View, rows: Sequence[Row]) -> None:
    """Draw a summary: which candidates are significantly better or worse than the base on some benchmark."""
    suite = known_suite(view.columns[0].suite)
    if suite is not None and suite.smoke:
        st.badge("smoke test data: not leaderboard scores", color="orange")
    names_by_kind: dict[str, list[str]] = {
        "▲ better": [],
        "▼ worse": [],
        "▲▼ better and worse": [],
        "no difference shown": [],
    }
    for row in rows:
        if not isinstance(row.result, Comparison):
            continue
        signs = {
            r.delta.delta_points > 0
            for r in (*row.result.rows, *row.result.averages)
            if r.significant and r.delta
        }
        kind = "▲▼ better and worse" if len(signs) == 2 else "▲ better" if True in signs else "▼ worse"
        names_by_kind[kind if signs else "no difference shown"].append(row.scores.candidate.name)
    if any(names_by_kind.values()):
        base = escaped(view.base.name, 40)
        parts = [
            f"**{kind}:** {_some(names)}"
            for kind, names in names_by_kind.items()
            if names or kind == "▲ better"
        ]
        st.markdown(f"Against {base}, on at least one benchmark. {' · '.join(parts)}")


def _some(names: Sequence[str]) -> str:
    first = ", ".join(escaped(name, 40) for name in names[:4])
    return (f"{first} and {len(names) - 4} more" if len(names) > 4 else first) or "none"


def _legend(view: _View, rows: Sequence[Row], pending: int) -> None:
    if view.shown is Shown.SCORES:
        st.caption("Normalized scores, 0 to 100. ◆ base, ◔ partial, ⚠ alarm.")
        return
    counts = [(r.result.n_tests, r.result.n_candidates) for r in rows if isinstance(r.result, Comparison)]
    n_tests, n_candidates = max(counts, default=(0, 0))
    unit = "points, with its 95 % interval" if view.shown is Shown.POINTS else "per cent of the base's score"
    st.caption(
        f"Normalized score and {view.shown.value} (candidate minus base, in {unit}); the table goes on to the right. "
        f"▲ better, ▼ worse: p < {SIGNIFICANT} after correction ({correction_text(n_tests, n_candidates)}); an interval is for its "
        "cell alone. "
        "⊘ may not be compared. ◆ base, ◔ partial, ⚠ alarm."
        + (f" Comparisons being made: {pending}." if pending else "")
    )


def _table(view: _View, rows: Sequence[Row]) -> None:
    titles = {column: title(column) for column in view.columns}
    by_title = {text: column for column, text in titles.items()}
    suite = view.columns[0].suite
    better, worse, forbidden = widgets.tints()
    colours = {Tint.BETTER: better, Tint.WORSE: worse, Tint.FORBIDDEN: forbidden}

    def colour(index: int, name: str) -> str:
        if name not in by_title and name != MEAN:
            return ""
        mark = tint(rows[index], by_title.get(name), suite)
        return f"background-color: {colours[mark]}" if mark is not Tint.NONE else ""

    shown = [cells(row, view.columns, titles, view.shown) for row in rows]

    def opened(selected: Any) -> None:
        for index, name in selected.selection.cells:
            column = by_title.get(name)
            if index < len(rows) and not rows[index].is_base:
                bench = column.benchmark if column is not None else None
                _compare(view, rows[index].scores.candidate.position, bench)

    selected = widgets.table(
        shown,
        "board",
        tint=colour,
        select=("multi-row", "single-cell"),
        columns=_widths(view, titles, shown),
        height=widgets.table_height(min(len(rows), 21)),
        name="Leaderboard",
        on_pick=opened,
    )
    _ticked(view, [rows[i].scores.candidate.position for i in selected.selection.rows if i < len(rows)])


def _widths(view: _View, titles: dict[Column, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Column widths for the texts of the rows, including pending ones; the recipe column is pinned."""
    least = {Shown.POINTS: 140, Shown.PERCENT: 110, Shown.SCORES: 70}[view.shown]
    widths: dict[str, Any] = {NAME: st.column_config.TextColumn(pinned=True)}
    for name in (MEAN, *titles.values()):
        longest = max((len(str(row.get(name, ""))) for row in rows), default=0)
        widths[name] = st.column_config.TextColumn(width=max(least, 18 + round(5.6 * longest)))
    return widths


def _ticked(view: _View, picked: Sequence[int]) -> None:
    """Draw actions for ticked recipes: pin, compare, use as base."""
    if not picked:
        st.caption("Click a number to see what is behind it. Tick recipes to pin, compare or rebase.")
        return
    with st.container(horizontal=True):
        if st.button("Pin or unpin", icon=":material/keep:"):
            pins = sorted(set(view.pins) ^ {p for p in picked if p != view.base.position})
            address.put(pins=",".join(map(str, pins)) or None)
            st.rerun()
        if len(picked) == 1 and st.button("Use as the base", icon=":material/flag:"):
            address.put(base=picked[0])
            st.rerun()
        if len(picked) <= 2:
            base = picked[0] if len(picked) == 2 else view.base.position
            st.button(
                "Compare",
                icon=":material/compare_arrows:",
                on_click=_compare,
                args=(view, picked[-1], None, base),
            )


def _compare(view: _View, position: int, bench: str | None, base: int | None = None) -> None:
    address.go(
        View.COMPARE,
        run=view.run.id,
        base=view.base.position if base is None else base,
        cand=position,
        bench=bench,
        suite=address.value("suite"),
        engine=address.value("engine"),
    )


def _downloads(view: _View, rows: Sequence[Row]) -> None:
    for reason in reasons(rows):
        st.text(f"⊘ {reason}")
    name = f"leaderboard-{view.run.id}"
    with st.container(horizontal=True):
        widgets.download(
            "CSV", f"{name}.csv", lambda: widgets.csv_of(flat(rows, view.columns)), "text/csv", "board_csv"
        )
        widgets.download(
            "Parquet",
            f"{name}.parquet",
            lambda: _parquet(rows, view.columns),
            "application/vnd.apache.parquet",
            "board_parquet",
        )


def _parquet(rows: Sequence[Row], columns: Sequence[Column]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(flat(rows, columns)).to_parquet(buffer, index=False)
    return buffer.getvalue()
