"""What `status` and `watch` print."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evals.stats.candidate_race import CandidateRace, begun_text, left_text
from orchestrator.cli.progress import job_text
from orchestrator.cli.race_view import candidate_race_data
from orchestrator.compare.candidate_races import candidate_race_of, race_rule_of
from orchestrator.display.format import about, duration, hours
from orchestrator.display.text_safety import Terminal
from orchestrator.run.outlook import StoredOutlook
from orchestrator.run.progress import JobProgress, read_progress
from orchestrator.run.remedies import refusal_note, refusal_notes, remedy
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.pages import FailureGroup, Pages
from orchestrator.store.records import ENDED, AttemptRecord, JobCounts, RunRecord, RunState, Usage
from orchestrator.store.sequences import Savings

_LOG_LINES = 8
_MOST_LISTED = 8
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
        # The id is what every other command takes: it is never cut.
        table.add_column(column, no_wrap=column == "run", overflow="fold", min_width=_id_width(rows, column))
    for record, progress in rows:
        started = record.started_at.strftime("%Y-%m-%d %H:%M") if record.started_at else "-"
        done = f"{progress.done}/{progress.total}"
        table.add_row(record.id, record.state, done, str(progress.failed), str(progress.running), started)
    Terminal().print(table if rows else "No runs yet; `mergeboard run SWEEP.yaml` makes one.")


def _id_width(rows: Sequence[tuple[RunRecord, JobCounts]], column: str) -> int | None:
    return max((len(record.id) for record, _ in rows), default=0) if column == "run" else None


def show_run(settings: Settings, run_id: str, as_json: bool) -> None:
    """One run: counts, what is left, what runs where, what failed and why."""
    with _open(settings) as store:
        look = _look(store, settings, StoredOutlook(run_id, settings.home), run_id)
        failed = tuple(store.failed_attempts(run_id)) if as_json else ()
    if as_json:
        data = _run_data(look.record, look.progress)
        data["remaining_s"] = look.left_s
        data["running_attempts"] = [work.attempt.model_dump(mode="json") for work in look.running]
        if look.savings is not None:
            data["saved"] = {**look.savings.model_dump(mode="json"), "share": look.savings.share}
        data.update(candidate_race_data(look.race))
        data["usage"] = [u.model_dump(mode="json") for u in look.usage]
        data["built_instead"] = list(look.built_instead)
        data["failed_attempts"] = [a.model_dump(mode="json") for a in failed]
        data["failures"] = [
            {**group.model_dump(mode="json"), "next_step": _next_step(group)} for group in look.failures
        ]
        print(json.dumps(data, indent=2))
        return
    console = Terminal()
    console.print(_view(look), soft_wrap=True)


def watch_run(settings: Settings, run_id: str, period_s: float, console: Console | None = None) -> None:
    """Show a run until nobody drives it: redrawn in place in a terminal, elsewhere a line for each change and the whole at its end."""
    console = console or Terminal()
    outlook = StoredOutlook(run_id, settings.home)
    races = _Races()
    with (
        _open(settings) as store,
        Live(console=console, auto_refresh=False, transient=True)
        if console.is_terminal
        else nullcontext() as live,
    ):
        told = None
        failures_told: dict[str, int] = {}
        while True:
            look = _look(store, settings, outlook, run_id, races)
            if not _is_active(look.record):
                break
            if live is not None:
                live.update(_view(look), refresh=True)
            else:
                if (look.record.state, look.progress) != told:
                    told = (look.record.state, look.progress)
                    console.print(_headline(look), soft_wrap=True)
                for sentence in _new_failures(look, failures_told):
                    console.print(sentence, soft_wrap=True, markup=False)
            time.sleep(period_s)
    console.print(_view(look), soft_wrap=True)


def _open(settings: Settings) -> Pages:
    store = Pages.open(settings.database_url, create=False, read_only=True)
    assert isinstance(store, Pages)
    return store


def _is_active(record: RunRecord) -> bool:
    """Whether somebody drives the run now, or is about to: a run that was just submitted waits for its driver's first step."""
    recent = datetime.now(UTC) - record.created_at < _DRIVER_START
    return record.state is RunState.RUNNING or (record.state is RunState.WAITING and recent)


class _RunningJob(NamedTuple):
    """A running attempt, and what it does."""

    attempt: AttemptRecord
    progress: JobProgress
    elapsed_s: float


class _Look(NamedTuple):
    """A run at one moment."""

    record: RunRecord
    progress: JobCounts
    running: tuple[_RunningJob, ...]
    failures: tuple[FailureGroup, ...]
    built_instead: tuple[str, ...]
    labels: Mapping[str, str]
    usage: tuple[Usage, ...]
    left_s: float | None
    savings: Savings | None
    race: CandidateRace | None


class _Races:
    """Reads a race again when a round has begun or the run's state has changed: it takes all answers."""

    def __init__(self) -> None:
        self._read: tuple[tuple[RunState, int], CandidateRace | None] | None = None

    def of(self, store: Pages, record: RunRecord, progress: JobCounts) -> CandidateRace | None:
        """The race as far as it is; None if the run is none, or its first round is not done."""
        at = (record.state, progress.total)
        if self._read is None or self._read[0] != at:
            self._read = at, candidate_race_of(store, record)
        return self._read[1]


def _look(
    store: Pages, settings: Settings, outlook: StoredOutlook, run_id: str, races: _Races | None = None
) -> _Look:
    record, progress = store.run(run_id), store.progress(run_id)
    attempts, failures = store.running_attempts(run_id), store.failure_groups(run_id)
    labels = store.job_labels(run_id, [*(a.job_digest for a in attempts), *(g.job_digest for g in failures)])
    now = store.now()
    running = tuple(
        _RunningJob(
            attempt,
            read_progress(
                settings.journals, attempt.job_digest, labels.get(attempt.job_digest, "a job"), attempt.node
            ),
            max(0.0, (now - attempt.started_at).total_seconds()),
        )
        for attempt in attempts
    )
    is_running = record.state is RunState.RUNNING
    left_s = outlook.left_s(store, progress) if is_running else None
    return _Look(
        record=record,
        progress=progress,
        running=running,
        failures=failures,
        built_instead=refusal_notes((*store.earlier_refusals(record), *failures)),
        labels=labels,
        usage=tuple(store.usage(run_id)),
        left_s=left_s,
        savings=store.savings(run_id),
        race=(races or _Races()).of(store, record, progress),
    )


def _headline(look: _Look) -> str:
    """How far a run is, in one sentence."""
    record, progress = look.record, look.progress
    parts = [
        f"{record.id}: {record.state}, {progress.done} of {progress.total} jobs done, {progress.running} running, "
        f"{progress.failed} failed, {progress.waiting} waiting"
    ]
    if (left := about(look.left_s)) is not None:
        parts.append(f"{left} left")
    return ", ".join(parts)


def _view(look: _Look) -> Text:
    """All that is told of one run."""
    lines = [_headline(look)]
    if look.record.started_at is not None and look.usage:
        lines.append(f"{_hours(look.usage)} so far")
    rule = race_rule_of(look.record)
    if rule is not None:
        lines.append(look.race.sentence if look.race is not None else begun_text(rule))
    elif look.savings is not None:
        lines.append(look.savings.sentence)
    if look.race is not None:
        lines += _left_lines(look.race, look.record.id)
    lines += [
        f"  {node.node or 'a node that is not known'}: {node.attempts} attempts, {_hours([node])}"
        for node in look.usage
    ]
    lines += [f"  {job_text(job.progress)} for {duration(job.elapsed_s)}" for job in look.running]
    lines += look.built_instead
    failures = [group for group in look.failures if not _is_refusal(group)]
    # Until the run has ended, refused jobs wait for their builds.
    ended = look.record.state in ENDED
    lasting = [group for group in look.failures if group.jobs and (ended or not _is_refusal(group))]
    for group in lasting[:_MOST_LISTED]:
        lines += _failure_lines(group, look.labels.get(group.job_digest, "a job"))
    if len(lasting) > _MOST_LISTED:
        lines.append(
            f"And {len(lasting) - _MOST_LISTED:,} further messages; `mergeboard status {look.record.id} --json` has all."
        )
    lines += [
        f"{group.attempts:,} failed and succeeded when tried again: {_message(group)}"
        for group in failures
        if not group.jobs
    ][:_MOST_LISTED]
    return Text("\n".join(lines))


def _left_lines(race: CandidateRace, run_id: str) -> list[str]:
    """A line for each of the first candidates that left a race."""
    lines = [f"  {c.name}: {left_text(c, at, race.rule.keep)}" for c, at in race.left[:_MOST_LISTED]]
    if len(race.left) > _MOST_LISTED:
        lines.append(
            f"  And {len(race.left) - _MOST_LISTED:,} further candidates left; `mergeboard status {run_id} --json` has all."
        )
    return lines


def _hours(usage: Sequence[Usage]) -> str:
    """GPU-hours where there are GPUs, else hours of jobs."""
    gpu_s = sum(node.gpu_s for node in usage)
    return (
        f"{hours(gpu_s)} GPU-hours" if gpu_s else f"{hours(sum(node.job_s for node in usage))} hours of jobs"
    )


def _new_failures(look: _Look, told: dict[str, int]) -> list[str]:
    """A line for each message of failed attempts, or of what is built instead, that came since the last look.

    `told` counts the attempts by message; what is built instead is told once.
    """
    lines = [note for note in look.built_instead if note not in told]
    told |= dict.fromkeys(lines, 1)
    for group in look.failures:
        if _is_refusal(group):
            continue
        if group.attempts > told.get(_message(group), 0):
            label = look.labels.get(group.job_digest, "a job")
            attempts = f"{group.attempts:,} attempts" if group.attempts > 1 else "An attempt"
            lines.append(f"{attempts} failed so far, the latest {label}: {_message(group)}")
        told[_message(group)] = group.attempts
    return lines


def _failure_lines(group: FailureGroup, label: str) -> list[str]:
    """Jobs that failed with one message: how many, what to do, and the end of the latest one's log."""
    jobs = f"{group.jobs:,} jobs" if group.jobs > 1 else "1 job"
    tries = f" in {group.attempts:,} attempts" if group.attempts > group.jobs else ""
    latest = f", latest {label}" if group.jobs > 1 else f" ({label})"
    lines = [
        f"{jobs} failed{tries}{latest}: {_message(group)}",
        f"    Next step: {_next_step(group)}",
    ]
    return lines + [f"    {line}" for line in (group.log_tail or "").splitlines()[-_LOG_LINES:]]


def _message(group: FailureGroup) -> str:
    return f"{group.failure_class or 'lost'}: {group.message}"


def _is_refusal(group: FailureGroup) -> bool:
    """Whether its jobs are built instead of run live."""
    return refusal_note(group.failure_class, group.message) is not None


def _next_step(group: FailureGroup) -> str:
    return remedy(group.failure_class, f"{group.message}\n{group.log_tail or ''}")


def _run_data(record: RunRecord, progress: JobCounts) -> dict[str, object]:
    data = record.model_dump(mode="json", exclude={"sweep", "plan", "provenance"})
    return {**data, **progress.model_dump(mode="json"), "waiting": progress.waiting}
