"""What a run tells while it goes on: progress and remaining time to its reporter, events to its observers; finds hung jobs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TypeVar

from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.run.job_state import Frontier, NodeState, RunJob
from orchestrator.run.outlook import RunOutlook
from orchestrator.run.progress import (
    FailedAttempt,
    JobProgress,
    Observer,
    Reporter,
    RunProgress,
    Watchdog,
    read_progress,
)
from orchestrator.store.records import Failure, FailureClass, Success

_REPORT_S = 0.4
_KEPT_FAILURES = 64
Group = TypeVar("Group")


class Reporting:
    """Reporter, observers, estimate and watchdog of one run."""

    def __init__(
        self,
        reporter: Reporter,
        observers: Sequence[Observer],
        watchdog: Watchdog,
        outlook: RunOutlook,
        journals: Path,
    ) -> None:
        self.outlook = outlook
        """The remaining time; takes the run's jobs as they are added."""
        self.started = time.monotonic()
        self._reporter = reporter
        self._observers = observers
        self._watchdog = watchdog
        self._journals = journals
        self._batches: list[tuple[str, ...]] = []
        self._failures: deque[FailedAttempt] = deque(maxlen=_KEPT_FAILURES)
        self._attempts_failed = 0
        self._ran = 0
        self._n_ended = 0
        self._last_report = float("-inf")

    def began(self, jobs: Sequence[BuildJob | EvalJob]) -> None:
        """A batch of jobs, or a build, was given to the executor."""
        self._batches.append(tuple(job.digest for job in jobs))
        self.outlook.began(jobs)

    def finished(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """A job's outcome has been stored."""
        self._ran += 1
        for observer in self._observers:
            observer.finished(job, outcome)
        self.outlook.ended(job, outcome)

    def failed(self, kind: FailureClass) -> None:
        """An attempt has failed, or the store did not answer."""
        for observer in self._observers:
            observer.failed(kind)

    def tell_failed(self, attempt: FailedAttempt) -> None:
        """Show a failed attempt with the progress."""
        self._attempts_failed += 1
        self._failures.append(attempt)

    def attempt_ended(self) -> None:
        """An attempt ended, well or not."""
        self._n_ended += 1

    def forget(self, digest: str) -> None:
        """Forget the progress of a job that no longer runs."""
        self._watchdog.forget(digest)

    def update(
        self,
        frontier: Frontier[Group],
        jobs: Mapping[str, RunJob],
        running: AbstractSet[str],
        *,
        waits_for: str | None,
        notes: tuple[str, ...],
        at_once: bool = False,
    ) -> list[tuple[str, Failure]]:
        """Update reporter and observers, at most once per `_REPORT_S` unless `at_once`; returns the jobs that hang, and why."""
        now = time.monotonic()
        if not at_once and now - self._last_report < _REPORT_S:
            return []
        self._last_report = now
        self._batches = [batch for batch in self._batches if not running.isdisjoint(batch)]
        shown = tuple(self._progress(batch, jobs[batch[0]]) for batch in self._batches)
        counts = {state: frontier.count(state) for state in NodeState}
        progress = RunProgress(
            counts=counts,
            later=sum(self.outlook.later.values()),
            running=shown,
            elapsed_s=now - self.started,
            ran=self._ran,
            remaining_s=self.outlook.left_s(frontier.pending(), shown, self._n_ended),
            waits_for=waits_for,
            attempts_failed=self._attempts_failed,
            failures=tuple(self._failures),
            notes=notes,
        )
        self._reporter.update(progress)
        by_state = {state.value: number for state, number in counts.items()}
        for observer in self._observers:
            observer.update(by_state, {job.digest: job.tokens for job in shown})
        reasons = ((job.digest, self._watchdog.hung(job)) for job in shown)
        return [
            (digest, Failure(failure_class=FailureClass.HUNG_ENGINE, message=reason))
            for digest, reason in reasons
            if reason is not None
        ]

    def _progress(self, batch: tuple[str, ...], first: RunJob) -> JobProgress:
        suffix = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
        return read_progress(self._journals, batch[0], first.label + suffix, first.node)
