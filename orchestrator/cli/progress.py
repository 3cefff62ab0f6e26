"""Progress of a run in the terminal: a bar with rate and estimate, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from orchestrator.run.job_state import NodeState
from orchestrator.run.scheduler import JobProgress, RunProgress

_PLAIN_PERIOD_S = 15.0


class TerminalReporter:
    """Implements scheduler.Reporter; used as a context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._run: TaskID | None = None
        self._jobs: dict[str, TaskID] = {}
        self._last_line = 0.0
        self._last_done = -1

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, progress: RunProgress) -> None:
        """Show where the run is."""
        if self._quiet:
            return
        if self._console.is_terminal:
            self._show(progress)
        else:
            self._line(progress)

    def _show(self, progress: RunProgress) -> None:
        done, total = _jobs(progress)
        if self._run is None:
            self._run = self._bars.add_task("jobs", total=total, rate="")
        failed = progress.counts[NodeState.FAILED]
        self._bars.update(self._run, completed=done, total=total, rate=f"{failed} failed" if failed else "")
        current = {job.digest for job in progress.running}
        for digest in [d for d in self._jobs if d not in current]:
            self._bars.remove_task(self._jobs.pop(digest))
        for job in progress.running:
            if job.digest not in self._jobs:
                self._jobs[job.digest] = self._bars.add_task(_label(job), total=None, rate="")
            task = self._jobs[job.digest]
            speed = self._bars.tasks[self._bars.task_ids.index(task)].speed
            self._bars.update(
                task,
                description=_label(job),
                completed=job.done,
                total=job.total or None,
                rate=f"{speed:.1f} requests/s" if speed else job.stage,
            )

    def _line(self, progress: RunProgress) -> None:
        """One line when a job has finished, or every 15 s."""
        done, total = _jobs(progress)
        now = time.monotonic()
        if done == self._last_done and now - self._last_line < _PLAIN_PERIOD_S:
            return
        self._last_line, self._last_done = now, done
        left = ""
        if progress.ran and done < total:
            left = f", about {progress.elapsed_s / progress.ran * (total - done):.0f} s left"
        running = "; ".join(_line_of(job) for job in progress.running)
        self._console.print(
            f"{done}/{total} jobs after {progress.elapsed_s:.0f} s{left}"
            + (f": {running}" if running else ""),
            soft_wrap=True,
        )


def _jobs(progress: RunProgress) -> tuple[int, int]:
    return progress.counts[NodeState.DONE], sum(progress.counts.values())


def _label(job: JobProgress) -> str:
    return job.label if len(job.label) <= 44 else job.label[:43] + "…"


def _line_of(job: JobProgress) -> str:
    return f"{job.label} {job.done}/{job.total}" if job.total else f"{job.label} ({job.stage})"
