"""The page: verdict, filters, table, what can be done with ticked recipes, downloads."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.board import Row, Shown, flat, known_suite, reasons, title
from dashboard.comparisons import (
    Comparer,
    PairResult,
    WholeVerdict,
    benchmark_columns,
    comparer_of,
    comparisons_of_run,
    verdict_of_run,
)
from dashboard.components.grid import show_grid
from dashboard.pages.leaderboard.scope import base_candidate, scope, scores_of
from dashboard.pages.leaderboard.table import FACTS, MEAN_KEY, NAME_KEY, grid_columns, grid_rows
from dashboard.report_button import report_button
from dashboard.verdict import label_of, show_verdict
from orchestrator.compare import SIGNIFICANT, Comparison, correction_text
from orchestrator.compare.verdict import Standing
from orchestrator.display.text_safety import line
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import ENDED, CandidateRecord, RunRecord

_PER_PAGE = 25
_REFRESH_S = 2.0
_MOST_PINS = 20
_MOST_TICKS = 200
_ALL = "all"
_PARTIAL = "partial"
_SHOWN = {Shown.POINTS: "Δ points", Shown.PERCENT: "Δ %", Shown.SCORES: "Scores only"}
_ASCENDING_IS_BEST = (
    SortKey.NAME,
    SortKey.POSITION,
    SortKey.LAYERS,
    SortKey.PARAMETERS,
    SortKey.DURATION,
)


@dataclass(frozen=True)
class _View:
    """What the page shows."""

    run: RunRecord
    base: CandidateRecord
    columns: tuple[Column, ...]
    shown: Shown
    search: str
    facts: tuple[str, ...]

    @property
    def pins(self) -> tuple[int, ...]:
        """Positions of the pinned recipes, without the base."""
        return tuple(p for p in _numbers("pins") if p != self.base.position)[:_MOST_PINS]

    @property
    def sort(self) -> str:
        """Key of the column that the rows are sorted by."""
        keys = {NAME_KEY, MEAN_KEY, *FACTS, *(c.benchmark for c in self.columns)}
        requested = address.value("sort", MEAN_KEY)
        return requested if requested in keys else MEAN_KEY

    @property
    def worst_first(self) -> bool:
        """Whether the worst comes first."""
        return address.value("worst") == "1"

    def query(self, positions: tuple[int, ...] | None) -> LeaderboardQuery:
        """The query of the rows below the base and the pinned recipes."""
        is_benchmark = self.sort in {c.benchmark for c in self.columns}
        key = SortKey.BENCHMARK if is_benchmark else SortKey(self.sort)
        return LeaderboardQuery(
            run_id=self.run.id,
            suite=self.columns[0].suite,
            engine_digest=self.columns[0].engine_digest,
            sort=key,
            benchmark=self.sort if is_benchmark else None,
            descending=(key in _ASCENDING_IS_BEST) == self.worst_first,
            search=self.search or None,
            positions=positions,
            without=(self.base.position, *self.pins),
            limit=_PER_PAGE,
        )


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Leaderboard", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message("No runs yet", "There is nothing to rank.", command="mergeboard run SWEEP.yaml")
        return
    columns = benchmark_columns(pages, run.id)
    base = base_candidate(pages, run)
    if data.fixed(pages.columns, run.id) and not columns:
        widgets.show_message(
            "Probes only", "This run asked probes, which are no benchmarks: see its layer map."
        )
        return
    if not columns or base is None:
        widgets.show_message(
            "No evaluations", "This run scores nothing, so that there is no leaderboard of it."
        )
        return
    above = st.container()
    view = _controls(run, base, columns)
    whole = _whole(pages, view)
    finished = run.state in ENDED and whole is not None and whole.verdict.complete
    every = None if finished else _REFRESH_S

    def draw() -> None:
        with above:
            st.fragment(_verdict, run_every=every)(pages, view)
        st.fragment(_board, run_every=every)(pages, comparer_of(pages), view)

    address.left_by_go(draw)


def _controls(run: RunRecord, base: CandidateRecord, columns: tuple[Column, ...]) -> _View:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scoped = scope(columns)
        text = address.search("Search", "q", "part of a recipe's name", resets=("page",))
        shown = address.segments(
            "Cells", "cells", [s.value for s in Shown], label_of=lambda s: _SHOWN[Shown(s)]
        )
        facts = _facts()
    return _View(run=run, base=base, columns=scoped, shown=Shown(shown), search=text, facts=facts)


def _facts() -> tuple[str, ...]:
    """The choice of the columns beside the scores, kept in the URL."""
    requested = address.value("cols", "layers,parameters")
    chosen = [key for key in FACTS if key in requested.split(",")]
    if st.session_state.get("cols") != chosen:
        st.session_state["cols"] = chosen

    def changed() -> None:
        address.put(cols=",".join(st.session_state["cols"]) or "none")

    with st.popover("Columns", icon=":material/view_column:"):
        st.pills(
            "Columns beside the scores",
            list(FACTS),
            selection_mode="multi",
            key="cols",
            format_func=lambda key: FACTS[key][0],
            on_change=changed,
        )
    return tuple(chosen)


def _whole(pages: Pages, view: _View) -> WholeVerdict | None:
    return verdict_of_run(pages, view.run, base=view.base.position, column=view.columns[0])


def _verdict(pages: Pages, view: _View) -> None:
    """Draw what the whole run shows, or how far its computation is."""
    whole = _whole(pages, view)
    suite = known_suite(view.columns[0].suite)
    if whole is not None:
        show_verdict(
            whole.verdict,
            n_waiting=whole.n_waiting,
            remaining_s=whole.remaining_s,
            smoke=suite is not None and suite.smoke,
        )


def _board(pages: Pages, comparing: Comparer, view: _View) -> None:
    """Draw filters and table; refreshed while the run or its comparisons are unfinished."""
    whole = _whole(pages, view)
    positions = _filter(whole) if whole is not None and whole.verdict.complete else None
    query = view.query(positions)
    total = data.live(pages.leaderboard_total, query)
    with st.container(horizontal=True, vertical_alignment="center"):
        first = address.pager("page", total, _PER_PAGE, "recipes")
        _actions(view)
    if total == 0 and view.search:
        widgets.show_message("Nothing found", "No recipe of this run has a name that contains this text.")
        return
    rows = _rows(pages, comparing, view, query.model_copy(update={"offset": first}))
    _table(view, rows)
    _legend(view, rows)
    _downloads(view, rows)


def _filter(whole: WholeVerdict) -> tuple[int, ...] | None:
    """Draw the counts of the run's standings as filters; the positions of the chosen one, None for all."""
    counts = {
        s.value: (label_of(s), whole.verdict.count(s))
        for s in Standing
        if whole.verdict.count(s) or s in (Standing.BETTER, Standing.WORSE)
    }
    if whole.partial:
        counts[_PARTIAL] = ("◔ partial", len(whole.partial))
    counts = {_ALL: ("All", len(whole.standings)), **counts}
    chosen = address.segments(
        "Show",
        "show",
        list(counts),
        label_of=lambda key: f"{counts[key][0]} **{counts[key][1]:,}**",
        resets=("page",),
    )
    if chosen == _ALL:
        return None
    return tuple(sorted(whole.partial)) if chosen == _PARTIAL else whole.positions((Standing(chosen),))


def _rows(pages: Pages, comparing: Comparer, view: _View, query: LeaderboardQuery) -> list[Row]:
    """Rows of the base, of the pinned recipes and of the page."""
    page = data.live(pages.leaderboard, query)
    base = scores_of(pages, view.run.id, view.base.position, view.columns)
    pinned_positions = [p for p in view.pins if data.fixed(pages.candidate, view.run.id, p) is not None]
    pinned = [scores_of(pages, view.run.id, p, view.columns) for p in pinned_positions]
    results: dict[int, PairResult] = {}
    if view.shown is not Shown.SCORES:
        positions = [s.candidate.position for s in (*pinned, *page.rows)]
        results, _ = comparisons_of_run(
            pages, comparing, view.run.id, view.base.position, view.columns[0], positions
        )
    rows = [Row(scores=base, result=None, is_base=True)]
    rows += [Row(scores=s, result=results.get(s.candidate.position), pinned=True) for s in pinned]
    return rows + [Row(scores=s, result=results.get(s.candidate.position)) for s in page.rows]


def _table(view: _View, rows: Sequence[Row]) -> None:
    benchmarks = {c.benchmark for c in view.columns}

    def sorted_by(key: str) -> None:
        again = key == view.sort and not view.worst_first
        address.put(sort=None if key == MEAN_KEY else key, worst="1" if again else None, page=None)

    def opened(position: int, column: str) -> None:
        if not column:
            address.go(View.RECIPE, **_destination(view, position, None))
        elif position != view.base.position:
            _compare(view, position, column if column in benchmarks else None)

    def link(position: int, column: str) -> str:
        bench = column if column in benchmarks else None
        goal = View.COMPARE if column else View.RECIPE
        return address.address(goal, **_destination(view, position, bench))

    show_grid(
        "board",
        f"Recipes of {line(view.run.name, 60)} with the difference to {line(view.base.name, 60)}",
        grid_columns(view.columns, view.facts, view.sort, worst_first=view.worst_first, title_of=title),
        grid_rows(rows, view.columns, view.facts, view.shown, link=link),
        ticks=_numbers("ticks"),
        on_sort=sorted_by,
        on_open=opened,
        on_tick=lambda positions: address.put(ticks=",".join(map(str, positions[:_MOST_TICKS])) or None),
    )


def _legend(view: _View, rows: Sequence[Row]) -> None:
    if view.shown is Shown.SCORES:
        st.caption("Normalized scores, 0 to 100. ◆ base, ◔ partial, ⚠ alarm.")
        return
    counts = [(r.result.n_tests, r.result.n_candidates) for r in rows if isinstance(r.result, Comparison)]
    n_tests, n_candidates = max(counts, default=(0, 0))
    st.caption(
        f"▲ better, ▼ worse: p < {SIGNIFICANT} after correction ({correction_text(n_tests, n_candidates)}). "
        "△ ▽ the interval excludes 0, but not after correction. ⊘ not compared. ◆ base, ◔ partial, ⚠ alarm. "
        "Click a number for the questions behind it, a name for its recipe, › for intervals."
    )


def _actions(view: _View) -> None:
    """Draw what can be done with ticked recipes, which may be on other pages of the table."""
    ticked = [p for p in _numbers("ticks")]
    base = ticked[0] if len(ticked) == 2 else view.base.position
    last = ticked[-1] if ticked else 0

    def pin() -> None:
        pins = sorted(set(view.pins) ^ {p for p in ticked if p != view.base.position})
        address.put(pins=",".join(map(str, pins[:_MOST_PINS])) or None, ticks=None, page=None)

    buttons: tuple[tuple[str, str, bool, Callable[..., None], tuple[object, ...]], ...] = (
        ("Compare", ":material/compare_arrows:", 0 < len(ticked) <= 2, _compare, (view, last, None, base)),
        ("Pin or unpin", ":material/keep:", bool(ticked), pin, ()),
        ("Use as the base", ":material/flag:", len(ticked) == 1, _rebase, (last,)),
        ("Untick all", ":material/close:", bool(ticked), _untick, ()),
    )
    st.caption(f"{len(ticked)} ticked")
    for label, icon, enabled, act, args in buttons:
        st.button(label, icon=icon, disabled=not enabled, on_click=act, args=args, key=f"board_{label}")


def _rebase(position: int) -> None:
    address.put(base=position, ticks=None, page=None)


def _untick() -> None:
    address.put(ticks=None)


def _destination(
    view: _View, position: int, bench: str | None, base: int | None = None
) -> dict[str, str | int | None]:
    return {
        "run": view.run.id,
        "base": view.base.position if base is None else base,
        "cand": position,
        "bench": bench,
        "suite": address.value("suite"),
        "engine": address.value("engine"),
    }


def _compare(view: _View, position: int, bench: str | None, base: int | None = None) -> None:
    address.go(View.COMPARE, **_destination(view, position, bench, base))


def _numbers(name: str) -> tuple[int, ...]:
    """A list of positions in the URL."""
    parts = address.value(name).split(",")
    return tuple(dict.fromkeys(int(p) for p in parts if p.isascii() and p.isdigit() and len(p) < 10))[
        :_MOST_TICKS
    ]


def _downloads(view: _View, rows: Sequence[Row]) -> None:
    for reason in reasons(rows):
        st.text(f"⊘ {reason}")
    name = f"leaderboard-{view.run.id}"
    with st.container(horizontal=True):
        report_button(view.run.name, run_id=view.run.id)
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
