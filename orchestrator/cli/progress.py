"""Progress of a run: what runs where, redrawn in place in a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.display.format import about, duration
from orchestrator.display.text_safety import line
from orchestrator.run.job_state import NodeState
from orchestrator.run.scheduler import JobProgress, RunProgress

_PLAIN_PERIOD_S = 15.0
_LONGEST_FAILURE = 1_000
# Jobs that a terminal shows at once; a cluster runs more.
_SHOWN = 16


class TerminalReporter:
    """Implements scheduler.Reporter; used as a context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._last_line = 0.0
        self._last_done = -1
        self._failures_told = 0
        self._notes_told = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, progress: RunProgress) -> None:
        """Show where the run is."""
        if self._quiet:
            return
        notes = [line(note, _LONGEST_FAILURE) for note in progress.notes[self._notes_told :]]
        for sentence in [*notes, *failure_lines(progress, self._failures_told)]:
            self._console.print(sentence, soft_wrap=True, markup=False)
        self._failures_told, self._notes_told = progress.attempts_failed, len(progress.notes)
        if self._console.is_terminal:
            self._live.update(run_view(progress), refresh=True)
        else:
            self._line(progress)

    def _line(self, progress: RunProgress) -> None:
        """One line when a job has finished, or every 15 s."""
        done = progress.counts[NodeState.DONE]
        now = time.monotonic()
        if done == self._last_done and now - self._last_line < _PLAIN_PERIOD_S:
            return
        self._last_line, self._last_done = now, done
        running = "; ".join(map(job_text, progress.running))
        sentence = headline(progress) + (f": {running}" if running else "")
        self._console.print(sentence, soft_wrap=True)


def failure_lines(progress: RunProgress, told: int) -> list[str]:
    """What failed since `told` failed attempts, and whether it is tried again: a line for each message."""
    new = progress.failures[max(0, len(progress.failures) - (progress.attempts_failed - told)) :]
    labels: dict[tuple[str, str, bool], list[str]] = {}
    for failure in new:
        key = failure.failure_class.value, failure.message.partition("\n")[0], failure.retried
        labels.setdefault(key, []).append(failure.label)
    lines = []
    for (kind, message, retried), names in labels.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        end = "; it is tried again" if retried else "; it is not tried again"
        lines.append(line(f"{names[0]}{more} failed ({kind}){end}: {message}", _LONGEST_FAILURE))
    return lines


def headline(progress: RunProgress) -> str:
    """How far a run is, as one sentence: `3/8 jobs after 2 min 5 s, about 4 min left, 1 failed`."""
    done, total = done_and_total(progress)
    of = f"{done} of about {total}" if progress.later else f"{done}/{total}"
    parts = [f"{of} jobs after {duration(progress.elapsed_s)}"]
    left = about(progress.remaining_s) if done < total else None
    if left is not None:
        parts.append(f"{left} left")
    if failed := progress.counts[NodeState.FAILED]:
        parts.append(f"{failed} failed")
    if progress.waits_for:
        parts.append(f"waiting: {progress.waits_for}")
    return ", ".join(parts)


def done_and_total(progress: RunProgress) -> tuple[int, int]:
    """Numbers of jobs, those that a search is expected to add included."""
    return progress.counts[NodeState.DONE], sum(progress.counts.values()) + progress.later


def run_view(progress: RunProgress) -> RenderableType:
    """A run in a terminal: the headline, a bar, and a line for each job that runs."""
    done, total = done_and_total(progress)
    rows = Table.grid(padding=(0, 1))
    rows.add_column()
    rows.add_column(overflow="fold")
    for job in progress.running[:_SHOWN]:
        rows.add_row(_bar(job.share_done), Text(job_text(job)))
    more = len(progress.running) - _SHOWN
    if more > 0:
        rows.add_row("", f"and {more} more")
    whole = Table.grid(padding=(0, 1))
    whole.add_row(_bar(done / total if total else 0.0), Text(headline(progress)))
    return Group(whole, rows)


def job_text(job: JobProgress) -> str:
    """What a running job does and how far it is: `base: smoke bbh 12/90 on node-1`."""
    return " ".join(_job_parts(job))


def _job_parts(job: JobProgress) -> Iterator[str]:
    yield job.label
    yield f"{job.done}/{job.total}" if job.total else f"({job.stage})"
    if job.share_done and job.tokens and job.work_s:
        yield f"({job.tokens / job.work_s:,.0f} tokens/s)"
    if job.node:
        yield f"on {job.node}"


def _bar(share: float | None) -> ProgressBar:
    """A bar; empty where nothing is counted yet."""
    return ProgressBar(total=1.0, completed=share or 0.0, width=24)
