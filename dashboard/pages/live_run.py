"""What runs where in a live run, what failed and what to do, and the rate of outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.runs import seconds_between
from orchestrator.display.format import about, duration, hours
from orchestrator.display.text_safety import escaped, line
from orchestrator.plan.job import JobKind
from orchestrator.run.outlook import StoredOutlook
from orchestrator.run.progress import JobProgress, read_progress
from orchestrator.run.remedies import refusal_note, refusal_notes, remedy
from orchestrator.store.pages import FailureGroup, JobState, Pages, Work
from orchestrator.store.records import ENDED, JobCounts, RunRecord, RunState, Usage
from orchestrator.store.refusals import LiveRefusal

_MOST_GROUPS = 8
_RUNNING = {
    "Recipe": "Candidate that is scored or built; a batch of layer paths is one line.",
    "Benchmark": "What it is scored on.",
    "Progress": "Requests answered of the current benchmark, or what the engine does.",
    "Node": "Host that it runs on.",
    "Engine": "Engine, version and dtype.",
    "For": "Time since it was started.",
}


def progress_text(pages: Pages, run: RunRecord, progress: JobCounts) -> str:
    """How far a run is, with an estimate from what was measured while it runs."""
    parts = [f"{progress.done:,} of {progress.total:,} jobs"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if run.state is RunState.RUNNING:
        outlook = st.session_state.setdefault(
            f"outlook {run.id}", StoredOutlook(run.id, data.settings().home)
        )
        left = about(outlook.left_s(pages, progress))
        parts.append("no estimate yet: too little was measured" if left is None else f"{left} left")
    elif run.state in ENDED and run.ended_at is not None:
        parts.append(f"took {duration(seconds_between(run.started_at, run.ended_at))}")
    return " · ".join(parts)


def running(pages: Pages, run: RunRecord) -> None:
    """Draw what runs where: node, engine, recipe, benchmark and progress, one line for each batch."""
    work = data.live(pages.running_work, run.id)
    st.subheader("What runs where", anchor=False)
    if not work:
        st.caption("Nothing runs at this moment.")
        return
    now = data.live(pages.now)
    batches: dict[str, list[Work]] = {}
    for item in work:
        batches.setdefault(item.attempt.worker or item.attempt.id, []).append(item)
    rows = [_batch(batch, now) for batch in batches.values()]
    firsts = [batch[0] for batch in batches.values()]

    def opened(selected: Any) -> None:
        for index in widgets.picked(selected, len(firsts)):
            address.go(View.JOB, run=run.id, job=firsts[index].attempt.job_digest)

    columns = {name: st.column_config.Column(help=text) for name, text in _RUNNING.items()}
    widgets.table(
        rows, "running_now", columns=columns, select="single-row", name="What runs where", on_pick=opened
    )


def _batch(batch: Sequence[Work], now: Any) -> dict[str, Any]:
    first = batch[0]
    more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
    journals = data.settings().journals
    written = [read_progress(journals, w.attempt.job_digest, "") for w in batch]
    best = max(written, key=lambda p: (p.share_done or 0.0, p.engine_starts))
    return {
        "Recipe": line(first.candidate or "?", 50) + more,
        "Benchmark": "build" if first.kind is JobKind.BUILD else f"{first.suite} {first.benchmark}",
        "Progress": _stage(best),
        "Node": line(first.attempt.node or "–", 40),
        "Engine": first.engine or "–",
        "For": duration(seconds_between(first.attempt.started_at, now)),
    }


def _stage(progress: JobProgress) -> str:
    """How far a batch is: `33 of 48`, `120 of 540 MB`, or what its engine does."""
    if not progress.total:
        return line(progress.stage, 60)
    unit = " MB" if progress.stage.endswith("(MB)") else ""
    return f"{progress.done:,} of {progress.total:,}{unit}"


def failures(pages: Pages, run: RunRecord) -> None:
    """Draw the failures by message, each with the number of jobs and what to do."""
    groups = data.live(pages.failure_groups, run.id)
    for note in refusal_notes((*data.slow(_earlier_refusals, pages, run.id), *groups)):
        st.text(line(note, 500))
    failed = [group for group in groups if refusal_note(group.failure_class, group.message) is None]
    # Until the run has ended, refused jobs wait for their builds.
    lasting = [group for group in (groups if run.state in ENDED else failed) if group.jobs]
    passing = [group for group in failed if not group.jobs]
    if lasting:
        st.subheader("What failed, and what to do", anchor=False)
    for number, group in enumerate(lasting[:_MOST_GROUPS]):
        _group(run, group, f"failure_{number}")
    if len(lasting) > _MOST_GROUPS:
        st.caption(f"And {len(lasting) - _MOST_GROUPS:,} further messages: see the failed jobs.")
    if lasting:
        address.link(View.JOB, "All failed jobs", run=run.id, state=JobState.FAILED.value)
    if passing:
        attempts = sum(group.attempts for group in passing)
        with st.expander(f"{attempts:,} attempts failed and succeeded when tried again"):
            for group in passing[:_MOST_GROUPS]:
                st.text(f"{group.attempts:,} × {_class(group)}: {line(group.message, 300)}")


def _earlier_refusals(pages: Pages, run_id: str) -> tuple[LiveRefusal, ...]:
    return pages.earlier_refusals(pages.run(run_id))


def _group(run: RunRecord, group: FailureGroup, key: str) -> None:
    todo = remedy(group.failure_class, f"{group.message}\n{group.log_tail or ''}")
    # Some messages end with the remedy already.
    message = group.message.replace(todo, "").strip() or group.message
    with st.container(border=True, key=key, gap="xsmall"):
        tries = f" in {group.attempts:,} attempts" if group.attempts > group.jobs else ""
        jobs = f"{group.jobs:,} job{'s' if group.jobs != 1 else ''}{tries}"
        st.markdown(f"**{jobs}** · {escaped(_class(group))}")
        st.text(line(message, 500))
        st.markdown(f"**To do:** {todo}")
        address.link(View.JOB, "One of these jobs, with its log", run=run.id, job=group.job_digest)


def _class(group: FailureGroup) -> str:
    return (group.failure_class.value if group.failure_class else "lost").replace("_", " ")


def figures(pages: Pages, run: RunRecord, progress: JobCounts) -> None:
    """Draw the rate of outcomes and the cost, folded."""
    usage = Usage.total(data.of_runs(pages.usage, [run], run.id))
    with st.expander("Rate and cost"):
        cost = "GPU-hours" if usage.gpu_s else "hours of work, no GPU"
        st.text(f"{_rate(pages, run, progress)} jobs per hour · {hours(usage.gpu_s or usage.job_s)} {cost}")
        _arrivals(pages, run)


def _rate(pages: Pages, run: RunRecord, progress: JobCounts) -> str:
    """Jobs per hour: over the last ten minutes of a running run, over the whole run afterwards."""
    if run.state in ENDED:
        seconds = seconds_between(run.started_at, run.ended_at)
        return f"{progress.done * 3600 / seconds:,.0f}" if seconds else "–"
    pace = data.live(pages.pace, run.id)
    return f"{pace.jobs * 3600 / pace.window_s:,.0f}"


def _arrivals(pages: Pages, run: RunRecord) -> None:
    """Draw the number of outcomes over time, in at most forty steps."""
    end = run.ended_at or data.slow(pages.now)
    span = seconds_between(run.created_at, end) or 1.0
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
        alt.Chart(frame, height=200, title="Outcomes over time")
        .mark_bar()
        .encode(
            x=clock,
            y=alt.Y("outcomes:Q", title="outcomes", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("job:N", title=None),
        )
    )
    st.altair_chart(bars)
