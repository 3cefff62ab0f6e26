"""What `status` and `watch` print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from orchestrator.run.progress import read_progress
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import AttemptRecord, JobCounts, RunRecord, RunState, Usage
from orchestrator.text_safety import Terminal

_LOG_LINES = 8
# A run that nobody drives this long after it was written down will not start by itself.
_DRIVER_START = timedelta(minutes=10)


def show_runs(settings: Settings, as_json: bool) -> None:
    """All runs, newest first."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        rows = [(record, store.progress(record.id)) for record in store.runs()]
    if as_json:
        print(json.dumps([_run_data(record, progress) for record, progress in rows], indent=2))
        return
    table = Table(box=None, header_style="bold")
    for column in ("run", "state", "done", "failed", "running", "started"):
        table.add_column(column)
    for record, progress in rows:
        started = record.started_at.strftime("%Y-%m-%d %H:%M") if record.started_at else "-"
        done = f"{progress.done}/{progress.total}"
        table.add_row(record.id, record.state, done, str(progress.failed), str(progress.running), started)
    Terminal().print(table if rows else "No runs yet; `mergeboard run SWEEP.yaml` makes one.")


def show_run(settings: Settings, run_id: str, as_json: bool) -> None:
    """One run: counts, what runs where, what failed and why."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        record, progress = store.run(run_id), store.progress(run_id)
        running, failed = store.running_attempts(run_id), store.failed_attempts(run_id)
        usage = store.usage(run_id)
    if as_json:
        data = _run_data(record, progress)
        data["running_attempts"] = [a.model_dump(mode="json") for a in running]
        data["usage"] = [u.model_dump(mode="json") for u in usage]
        data["failed_attempts"] = [a.model_dump(mode="json") for a in failed]
        print(json.dumps(data, indent=2))
        return
    console = Terminal()
    console.print(
        f"{record.id}: {record.state}, {progress.done} of {progress.total} jobs done, {progress.running} running, "
        f"{progress.failed} failed, {progress.waiting} waiting"
    )
    estimate = _estimate(record, progress, usage)
    if estimate:
        console.print(estimate)
    for each in usage:
        console.print(
            f"  {each.node or 'a node that is not known'}: {each.attempts} attempts, {_hours(each)}"
        )
    for attempt in running:
        _show_running(console, settings, attempt)
    for attempt in failed:
        _show_failure(console, attempt)


def _estimate(record: RunRecord, progress: JobCounts, usage: Sequence[Usage]) -> str | None:
    """Hours so far and what is left at the pace so far."""
    if record.started_at is None or not usage:
        return None
    total = f"{_hours(Usage.total(usage))} so far"
    end = record.ended_at or datetime.now(UTC)
    elapsed = (end - record.started_at).total_seconds()
    if record.state is not RunState.RUNNING or not progress.done or elapsed <= 0:
        return total
    left = elapsed / progress.done * (progress.total - progress.done)
    return f"{total}; about {_span(left)} left at this pace"


def _hours(usage: Usage) -> str:
    """GPU-hours where there are GPUs, else hours of jobs."""
    if usage.gpu_s:
        return f"{usage.gpu_s / 3600:.2f} GPU-hours"
    return f"{usage.job_s / 3600:.2f} hours of jobs"


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _show_running(console: Console, settings: Settings, attempt: AttemptRecord) -> None:
    """A running job with its time so far and how far it is, as its worker wrote it down."""
    progress = read_progress(settings.journals, attempt.job_digest, "")
    counted = f"{progress.done}/{progress.total} requests" if progress.total else progress.stage
    since = (datetime.now(UTC) - attempt.started_at).total_seconds()
    left = ""
    if 0 < progress.done < progress.total:
        left = f", about {_span(since / progress.done * (progress.total - progress.done))} left"
    where = f" on {attempt.node}" if attempt.node else ""
    console.print(f"  {attempt.job_digest}{where}: {counted} after {_span(since)}{left}", markup=False)


def run_is_active(settings: Settings, run_id: str) -> bool:
    """Whether somebody drives the run now, or is about to: a run that was just submitted waits for its driver's first step."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        record = store.run(run_id)
    recent = datetime.now(UTC) - record.created_at < _DRIVER_START
    return record.state is RunState.RUNNING or (record.state is RunState.WAITING and recent)


def _show_failure(console: Console, attempt: AttemptRecord) -> None:
    where = f" on {attempt.node}" if attempt.node else ""
    console.print(
        f"attempt {attempt.number} at {attempt.job_digest}{where}: {attempt.failure_class or attempt.state}: {attempt.message}",
        markup=False,
    )
    for line in (attempt.log_tail or "").splitlines()[-_LOG_LINES:]:
        console.print(f"    {line}", markup=False, soft_wrap=True)


def _run_data(record: RunRecord, progress: JobCounts) -> dict[str, object]:
    data = record.model_dump(mode="json", exclude={"sweep", "plan", "provenance"})
    return {**data, **progress.model_dump(mode="json"), "waiting": progress.waiting}
