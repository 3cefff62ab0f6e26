"""Overview page: what a finished run shows, what runs where in a live one, what failed, and all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.pages import live_run
from dashboard.pages.candidate_race import show_race
from dashboard.pages.imported import imported_runs
from dashboard.pages.merge_search import show_merge_verdict
from dashboard.report_button import report_button
from dashboard.runs import parts_of_scans, run_end, seconds_between, suites_of
from dashboard.scan_verdict import link_confirmed_benchmarks, scan_of_run, scan_verdict, show_scan_verdict
from dashboard.scans import warning_of
from dashboard.verdict import show_verdict, verdict_of_run
from evals.scores import PROBE_SUITE
from orchestrator.charts import SMOKE_WARNING
from orchestrator.compare.candidate_races import race_rule_of
from orchestrator.display.format import duration, moment
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import ENDED, JobCounts, RunRecord, RunState

_RUNS_PER_PAGE = 12
_REFRESH_S = 3.0
_RUNS = {
    "Run": "Name of the sweep. A scan's search and confirmation are one line.",
    "State": "State of the run; of a scan, that of its last part.",
    "Started": "When it was stored, UTC.",
    "Recipes": "Number of recipes or layer paths besides the base.",
    "Suites": "What they are scored on.",
    "Done": "Jobs with a result.",
    "Failed": "Jobs that failed and are not tried again.",
    "Took": "From the first driver to the end.",
    "Id": "The name of the run in commands; its beginning is enough.",
}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    if run is None:
        widgets.heading("Overview", f"Store: {pages.label}")
        widgets.show_message(
            "No runs yet",
            "This store is empty. A run writes itself here as soon as it is planned.",
            command="mergeboard run SWEEP.yaml",
        )
        imported_runs(pages)
        return
    address.left_by_go(lambda: _page(pages, run))


def _page(pages: Pages, run: RunRecord) -> None:
    live: Callable[..., None] = st.fragment(_live_run, run_every=_REFRESH_S)
    live(pages, run.id)
    _runs(pages)
    imported_runs(pages)
    st.caption(line(f"Store: {pages.label}", 300))


def _live_run(pages: Pages, run_id: str) -> None:
    """Draw the selected run: its result if it has ended, else what it does."""
    run = data.live(pages.run, run_id)
    progress = data.live(pages.progress, run_id)
    widgets.heading("Overview", f"{line(run.name, 80)} · {_facts(pages, run)}")
    with st.container(key="run_state", gap="xsmall"):
        text = live_run.progress_text(pages, run, progress)
        st.markdown(f"**{widgets.STATE_MARKS[run.state]}** · {text}")
        if run.state not in ENDED and progress.total:
            st.progress(progress.done / progress.total)
    end = run_end(run, progress)
    if end is not None:
        widgets.show_message(end.title, end.sentence, command=end.command, icon=":material/warning:")
    saved = data.live(pages.savings, run.id)
    if saved is not None and race_rule_of(run) is None:
        st.caption(escaped(f"{saved.sentence}.", 300))
    if progress.done:
        _result(pages, run, progress)
    if run.state in (RunState.RUNNING, RunState.WAITING):
        live_run.running(pages, run)
    live_run.failures(pages, run)
    if progress.total:
        live_run.figures(pages, run, progress)


def _facts(pages: Pages, run: RunRecord) -> str:
    """What tells a run from others, in one line."""
    n_recipes = data.fixed(pages.count_candidates, run.id) - 1
    whole = data.live(parts_of_scans, pages).get(run.id)
    parts = [
        f"{n_recipes:,} recipe{'s' if n_recipes != 1 else ''}",
        data.fixed(_suites, pages, run.id),
        f"started {moment(run.created_at)}",
        run.id,
        *([f"part of {whole}"] if whole else []),
    ]
    return " · ".join(parts)


def _suites(pages: Pages, run_id: str) -> str:
    return suites_of(pages.columns(run_id))


def _result(pages: Pages, run: RunRecord, progress: JobCounts) -> None:
    """Draw the verdict of a run, of all its suites, with links to its pages."""
    columns = data.fixed(pages.columns, run.id)
    merges = data.live(pages.search_view, run.id)
    scan = None
    if merges is not None:
        show_merge_verdict(merges)
        links = [(View.SEARCH, "Merges and pictures")]
    elif any(column.suite == PROBE_SUITE for column in columns):
        scan = scan_of_run(pages, run)
        if scan is not None:
            show_scan_verdict(scan_verdict(pages, scan), warning_of(PROBE_SUITE))
        links = [(View.LAYERS, "Map and best path")]
    else:
        links = []
        _verdict(pages, run, columns)
        show_race(pages, run)
    benchmarks = any(column.suite != PROBE_SUITE for column in columns)
    if benchmarks:
        links.insert(0, (View.LEADERBOARD, "All recipes and scores"))
    if not columns:
        st.caption(f"This run built {progress.done:,} checkpoints and scored nothing.")
    with st.container(horizontal=True, vertical_alignment="center"):
        for view, label in links:
            address.link(view, label, run=run.id)
        link_confirmed_benchmarks(pages, scan)
        address.link(View.JOB, "All jobs", run=run.id)
        if columns:
            report_button(run.name, run_id=run.id)


def _verdict(pages: Pages, run: RunRecord, columns: Sequence[Column]) -> None:
    """Draw the verdict of the candidates on benchmarks."""
    whole = verdict_of_run(pages, run, column=columns[0]) if columns else None
    if whole is not None and whole.standings:
        show_verdict(
            whole.verdict,
            n_waiting=whole.n_waiting,
            remaining_s=whole.remaining_s,
            smoke=warning_of(columns[0].suite) == SMOKE_WARNING,
            counts=True,
        )
    elif whole is not None:
        st.caption("One checkpoint was scored: there is nothing to compare it with in this run.")


def _runs(pages: Pages) -> None:
    """Draw all runs, newest first; a scan or search is one of them."""
    st.subheader("All runs", anchor=False)
    parts = data.live(parts_of_scans, pages)
    whole = [run_id for run_id in data.live(pages.run_ids) if run_id not in parts]
    first = address.pager("runs", len(whole), _RUNS_PER_PAGE, "runs" if len(whole) != 1 else "run")
    shown = [data.live(pages.run, run_id) for run_id in whole[first : first + _RUNS_PER_PAGE]]
    rows = [_run_row(pages, run, [p for p, of in parts.items() if of == run.id]) for run in shown]
    asked = {member.run_id for member in data.live(pages.probe_runs)}

    def opened(selected: Any) -> None:
        for index in widgets.picked(selected, len(shown)):
            run_id = shown[index].id
            address.keep("run", run_id)
            address.go(View.LAYERS if run_id in asked else View.LEADERBOARD, run=run_id)

    columns = {name: st.column_config.Column(help=text) for name, text in _RUNS.items()}
    widgets.table(rows, "all_runs", columns=columns, select="single-row", name="All runs", on_pick=opened)
    st.caption("Select a run to open its leaderboard or layer map.")


def _run_row(pages: Pages, run: RunRecord, parts: list[str]) -> dict[str, Any]:
    """A run, or a scan with its further runs, newest first in `parts`."""
    runs = [run, *(data.live(pages.run, run_id) for run_id in parts)]
    stands = [_stand(pages, r) for r in runs]
    total, done, failed = (sum(values) for values in zip(*stands, strict=True))
    last = max(runs, key=lambda r: r.created_at)
    return {
        "Run": line(run.name, 60),
        "State": widgets.STATE_MARKS[last.state] + (" (confirmation)" if last is not run else ""),
        "Started": moment(run.created_at),
        "Recipes": data.fixed(pages.count_candidates, run.id) - 1,
        "Suites": data.fixed(_suites, pages, run.id),
        "Done": f"{done:,} of {total:,}",
        "Failed": failed,
        "Took": duration(seconds_between(run.started_at, last.ended_at)),
        "Id": run.id,
    }


def _stand(pages: Pages, run: RunRecord) -> tuple[int, int, int]:
    """Number of jobs in total, done and failed; a run that is done needs no count of its outcomes."""
    if run.state is RunState.DONE:
        total = data.fixed(pages.count_jobs, run.id)
        return total, total, 0
    progress = (data.slow if run.state in ENDED else data.live)(pages.progress, run.id)
    return progress.total, progress.done, progress.failed
