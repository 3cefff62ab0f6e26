"""Overview page, live: runs, progress, throughput, failures by class, GPU-hours, running attempts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.pages.imported import imported_runs
from orchestrator.display.format import about, duration, hours, moment
from orchestrator.display.text_safety import escaped, line
from orchestrator.plan.job import JobKind
from orchestrator.run.outlook import StoredOutlook
from orchestrator.store.pages import Pace, Pages, Work
from orchestrator.store.records import ENDED, JobCounts, RunRecord, RunState, Usage

_RUNS_PER_PAGE = 12
_FAILURES_PER_PAGE = 10
_REFRESH_S = 3.0


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Overview", f"Store: {pages.label}")
    if run is None:
        widgets.show_message(
            "No runs yet",
            "This store is empty. A run writes itself here as soon as it is planned.",
            command="mergeboard run SWEEP.yaml",
        )
        imported_runs(pages)
        return
    address.left_by_go(lambda: _page(pages, run.id))


def _page(pages: Pages, run_id: str) -> None:
    _live_run(pages, run_id)
    _runs(pages)
    imported_runs(pages)


@st.fragment(run_every=_REFRESH_S)
def _live_run(pages: Pages, run_id: str) -> None:
    """Draw the live state of the selected run."""
    run = data.live(pages.run, run_id)
    progress = data.live(pages.progress, run_id)
    st.subheader(f"{escaped(run.name, 60)} · {widgets.STATE_MARKS[run.state]}", anchor=False)
    _figures(pages, run, progress)
    left, right = st.columns([3, 2])
    with left:
        _running(pages, run)
    with right:
        _arrivals(pages, run)
    _failures(pages, run)


def _figures(pages: Pages, run: RunRecord, progress: JobCounts) -> None:
    usage = Usage.total((data.fixed if run.state in ENDED else data.slow)(pages.usage, run.id))
    pace = data.live(pages.pace, run.id)
    share = progress.done / progress.total if progress.total else 0.0
    st.progress(share, text=_progress_text(pages, run, progress))
    shown = st.columns(6)
    shown[0].metric("Jobs done", f"{progress.done:,} / {progress.total:,}")
    shown[1].metric("Running", f"{progress.running:,}")
    shown[2].metric("Waiting", f"{progress.waiting:,}")
    shown[3].metric("Failed", f"{progress.failed:,}")
    shown[4].metric("Jobs per hour", _throughput(run, pace, progress))
    shown[5].metric(
        "GPU-hours" if usage.gpu_s else "Hours of work (no GPU)", hours(usage.gpu_s or usage.job_s)
    )


def _progress_text(pages: Pages, run: RunRecord, progress: JobCounts) -> str:
    if run.state in ENDED:
        took = duration(_seconds(run.started_at, run.ended_at))
        return f"{widgets.STATE_MARKS[run.state]} after {took}"
    if run.state is RunState.INTERRUPTED:
        return "Nobody drives this run now; mergeboard resume goes on with it"
    outlook = st.session_state.setdefault(f"outlook {run.id}", StoredOutlook(run.id, data.settings().home))
    left = about(outlook.left_s(pages, progress))
    return "the remaining time is not known yet" if left is None else f"{left} left"


def _throughput(run: RunRecord, pace: Pace, progress: JobCounts) -> str:
    """Jobs per hour: over the last ten minutes of a running run, over the whole run afterwards."""
    if run.state in ENDED:
        seconds = _seconds(run.started_at, run.ended_at)
        return f"{progress.done * 3600 / seconds:,.0f}" if seconds else "–"
    return f"{pace.jobs * 3600 / pace.window_s:,.0f}"


def _running(pages: Pages, run: RunRecord) -> None:
    st.markdown("**What runs where**")
    work = data.live(pages.running_work, run.id)
    if not work:
        st.caption("Nothing runs at this moment.")
        return
    now = data.live(pages.now)
    rows = [
        {
            "Node": line(w.attempt.node or "–", 40),
            "Job": job_label(w),
            "For": duration(_seconds(w.attempt.started_at, now)),
            "Last sign of life": f"{duration(_seconds(w.attempt.heartbeat_at, now))} ago",
            "Try": w.attempt.number,
        }
        for w in work
    ]
    _work_table(rows, "running_now", "What runs where", run, work)


def _work_table(
    rows: Sequence[Mapping[str, Any]], key: str, name: str, run: RunRecord, work: Sequence[Work]
) -> None:
    """Draw a table of attempts; a click opens the job."""

    def opened(selected: Any) -> None:
        for index in widgets.picked(selected, len(work)):
            address.go(View.JOB, run=run.id, job=work[index].attempt.job_digest)

    widgets.table(rows, key, select="single-row", name=name, on_pick=opened)


def _arrivals(pages: Pages, run: RunRecord) -> None:
    """Draw the number of outcomes over time, in at most forty steps."""
    st.markdown("**Outcomes over time**")
    end = run.ended_at or data.slow(pages.now)
    span = _seconds(run.created_at, end) or 1.0
    arrivals = data.slow(pages.arrivals, run.id, run.created_at, math.ceil(span / 40))
    if not arrivals:
        st.caption("No outcome yet.")
        return
    import altair as alt

    frame = pd.DataFrame([{"time": a.at, "job": a.kind.value, "outcomes": a.count} for a in arrivals])
    # Vega uses local time by default; all other times here are UTC.
    clock = alt.X(
        "time:T", title="UTC", scale=alt.Scale(type="utc"), axis=alt.Axis(format="%H:%M", tickCount=6)
    )
    bars = (
        alt.Chart(frame, height=220)
        .mark_bar()
        .encode(
            x=clock,
            y=alt.Y("outcomes:Q", title="outcomes", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("job:N", title=None),
        )
    )
    st.altair_chart(bars)


def _failures(pages: Pages, run: RunRecord) -> None:
    counts = data.live(pages.failures, run.id)
    if not counts:
        st.caption("No attempt of this run has failed.")
        return
    st.markdown("**Failures by class**")
    for column, count in zip(st.columns(max(4, len(counts))), counts, strict=False):
        column.metric(count.failure_class.value.replace("_", " "), f"{count.count:,}")
    first = address.pager("failures", sum(c.count for c in counts), _FAILURES_PER_PAGE, "failed attempts")
    work = data.live(pages.failed_work, run.id, None, _FAILURES_PER_PAGE, first)
    rows = [
        {
            "When": moment(w.attempt.ended_at),
            "Class": (w.attempt.failure_class.value if w.attempt.failure_class else "lost").replace("_", " "),
            "Job": job_label(w),
            "Node": line(w.attempt.node or "–", 40),
            "Message": line(w.attempt.message or "", 300),
            "Tried again": {True: "yes", False: "no", None: "–"}[w.attempt.will_retry],
        }
        for w in work
    ]
    _work_table(rows, "failed_attempts", "Failed attempts", run, work)


def _runs(pages: Pages) -> None:
    """Draw all runs, newest first."""
    st.subheader("All runs", anchor=False)
    total = data.slow(pages.count_runs)
    first = address.pager("runs", total, _RUNS_PER_PAGE, "runs" if total != 1 else "run")
    runs = data.live(pages.runs, limit=_RUNS_PER_PAGE, offset=first)
    states = Counter(run.state for run in runs)
    st.caption(" · ".join(f"{count} {widgets.STATE_MARKS[state]}" for state, count in states.items()))
    rows = [_run_row(pages, run) for run in runs]
    columns = {"Progress": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0)}

    def opened(selected: Any) -> None:
        for index in widgets.picked(selected, len(runs)):
            address.keep("run", runs[index].id)
            address.go(View.LEADERBOARD, run=runs[index].id)

    widgets.table(rows, "all_runs", columns=columns, select="single-row", name="All runs", on_pick=opened)
    st.caption("Select a run to open its leaderboard.")


def _run_row(pages: Pages, run: RunRecord) -> dict[str, Any]:
    total, done, failed = _stand(pages, run)
    return {
        "Run": line(run.name, 60),
        "State": widgets.STATE_MARKS[run.state],
        "Progress": done / total if total else 0.0,
        "Jobs": total,
        "Failed": failed,
        "Created": moment(run.created_at),
        "Took": duration(_seconds(run.started_at, run.ended_at)),
        "Id": run.id,
    }


def _stand(pages: Pages, run: RunRecord) -> tuple[int, int, int]:
    """Number of jobs in total, done and failed; a run that is done needs no count of its outcomes."""
    if run.state is RunState.DONE:
        total = data.fixed(pages.count_jobs, run.id)
        return total, total, 0
    progress = (data.slow if run.state in ENDED else data.live)(pages.progress, run.id)
    return progress.total, progress.done, progress.failed


def job_label(work: Work) -> str:
    """Display text of what an attempt does."""
    name = line(work.candidate or "?", 50)
    return f"build {name}" if work.kind is JobKind.BUILD else f"{name}: {work.suite} {work.benchmark}"


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())
