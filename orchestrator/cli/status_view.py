"""What `status` and `watch` print."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from orchestrator.records import AttemptRecord, RunProgress, RunRecord, RunState
from orchestrator.settings import Settings
from orchestrator.store import Store

_LOG_LINES = 8


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
    Console().print(table if rows else "No runs yet; `mergeboard run SWEEP.yaml` makes one.")


def show_run(settings: Settings, run_id: str, as_json: bool) -> None:
    """One run: counts, what runs where, what failed and why."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        record, progress = store.run(run_id), store.progress(run_id)
        running, failed = store.running_attempts(run_id), store.failed_attempts(run_id)
    if as_json:
        data = _run_data(record, progress)
        data["running_attempts"] = [a.model_dump(mode="json") for a in running]
        data["failed_attempts"] = [a.model_dump(mode="json") for a in failed]
        print(json.dumps(data, indent=2))
        return
    console = Console(highlight=False)
    console.print(
        f"{record.id}: {record.state}, {progress.done} of {progress.total} jobs done, {progress.running} running, "
        f"{progress.failed} failed, {progress.waiting} waiting"
    )
    for attempt in failed:
        _show_failure(console, attempt)


def run_is_active(settings: Settings, run_id: str) -> bool:
    """Whether somebody drives the run now."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        return store.run(run_id).state is RunState.RUNNING


def _show_failure(console: Console, attempt: AttemptRecord) -> None:
    where = f" on {attempt.node}" if attempt.node else ""
    console.print(
        f"attempt {attempt.number} at {attempt.job_digest}{where}: {attempt.failure_class or attempt.state}: {attempt.message}",
        markup=False,
    )
    for line in (attempt.log_tail or "").splitlines()[-_LOG_LINES:]:
        console.print(f"    {line}", markup=False, soft_wrap=True)


def _run_data(record: RunRecord, progress: RunProgress) -> dict[str, object]:
    data = record.model_dump(mode="json", exclude={"sweep", "plan", "provenance"})
    return {**data, **progress.model_dump(mode="json"), "waiting": progress.waiting}
