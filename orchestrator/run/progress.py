"""Progress of a run and its jobs, the reporters of it, and the watchdog for hung jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.run.job_state import NodeState
from orchestrator.store.records import FailureClass, Success

# Phases without a count: downloading and loading hundreds of gigabytes, or scoring a benchmark's answers.
UNCOUNTED_S = 3600.0
# While requests are answered one by one, none in 15 minutes means that the engine hangs.
COUNTED_S = 900.0


class JobProgress(Frozen):
    """Progress of a running job, or of a batch of jobs."""

    digest: str = Field(description="Digest of the job, or of the first job of the batch.")
    label: str = Field(description="Description of the job for display.")
    stage: str = Field(description="Current stage of the work.")
    done: int = Field(default=0, description="Requests answered.")
    total: int = Field(default=0, description="Number of requests; 0 if not known yet.")
    tokens: int = Field(default=0, description="Tokens that its engine has processed and generated.")
    engine_starts: bool = Field(default=False, description="Whether its engine is starting.")
    share_done: float | None = Field(
        default=None, description="Share of its work that is done; null before anything is counted."
    )
    work_s: float = Field(default=0.0, description="Seconds of work after which that share was done.")
    node: str | None = Field(default=None, description="Host that it runs on, if known.")


class FailedAttempt(Frozen):
    """An attempt of this run that failed."""

    label: str = Field(description="Description of the job for display.")
    failure_class: FailureClass = Field(description="Class of the failure.")
    message: str = Field(description="The failure in one sentence.")
    retried: bool = Field(description="Whether the job is tried again.")


class RunProgress(Frozen):
    """Progress of a run."""

    counts: dict[NodeState, int] = Field(description="Jobs by state.")
    later: int = Field(default=0, description="Expected number of evaluations that a search has yet to add.")
    running: tuple[JobProgress, ...] = Field(description="Running jobs and batches.")
    elapsed_s: float = Field(description="Seconds since this process became the driver.")
    ran: int = Field(description="Jobs that this process finished.")
    remaining_s: float | None = Field(
        default=None, description="Estimated seconds until the run ends; null if unknown."
    )
    waits_for: str | None = Field(
        default=None, description="What the run waits for, in a sentence; null if nothing."
    )
    attempts_failed: int = Field(default=0, description="Failed attempts of this process so far.")
    failures: tuple[FailedAttempt, ...] = Field(
        default=(), description="The latest of them, the newest last."
    )
    notes: tuple[str, ...] = Field(
        default=(),
        description="What the run does otherwise than planned, one sentence each, in the order in which it happened.",
    )


class RunSummary(Frozen):
    """Result of a run."""

    run_id: str = Field(description="Id of the run.")
    done: int = Field(description="Jobs whose outcome is in the store.")
    cached: int = Field(description="Of these, jobs whose outcome was stored before this run.")
    failed: dict[str, str] = Field(description="Digest of each failed job to its message.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="Digest of each failed job to its description for display."
    )
    blocked: int = Field(description="Jobs that could not start because another failed.")
    duration_s: float = Field(description="Wall-clock seconds.")
    notes: tuple[str, ...] = Field(
        default=(), description="What the run did otherwise than planned, one sentence each."
    )


class Reporter(Protocol):
    """Displays the progress of a run."""

    def update(self, progress: RunProgress) -> None:
        """Called about twice a second."""


class Observer(Protocol):
    """Receives events of a run, for metrics."""

    def finished(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """Called when a job's outcome has been stored."""

    def failed(self, failure_class: FailureClass) -> None:
        """Called when an attempt has failed, or the store did not answer."""

    def update(self, jobs_by_state: Mapping[str, int], tokens_by_job: Mapping[str, int]) -> None:
        """Called about twice a second, with the tokens of each running job so far."""


def read_progress(journals: Path, digest: str, label: str, node: str | None = None) -> JobProgress:
    """The last progress that the worker wrote; stage `starting` if there is none."""
    try:
        data = json.loads((journals / digest / "progress.json").read_text())
        return JobProgress.model_validate({**data, "digest": digest, "label": label, "node": node})
    except (OSError, ValueError, TypeError):
        return JobProgress(digest=digest, label=label, stage="starting", node=node)


def progress_age_s(journals: Path, digest: str) -> float:
    """Seconds since the worker last wrote its progress; 0 if it has not."""
    try:
        return max(0.0, time.time() - (journals / digest / "progress.json").stat().st_mtime)
    except OSError:
        return 0.0


class Watchdog:
    """Detects jobs whose progress has stopped."""

    def __init__(
        self,
        *,
        counted_s: float = COUNTED_S,
        uncounted_s: float = UNCOUNTED_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counted_s = counted_s
        self._uncounted_s = uncounted_s
        self._clock = clock
        self._seen: dict[str, tuple[JobProgress, float]] = {}

    def hung(self, progress: JobProgress) -> str | None:
        """Reason why a job counts as hung, as a sentence; None if it does not."""
        now = self._clock()
        last, since = self._seen.get(progress.digest, (None, now))
        if progress != last:
            self._seen[progress.digest] = (progress, now)
            return None
        counting = 0 < progress.done < progress.total
        limit = self._counted_s if counting else self._uncounted_s
        if now - since <= limit:
            return None
        where = f"at {progress.done} of {progress.total} requests" if counting else f"({progress.stage})"
        return f"No progress for {now - since:.0f} s {where}; the engine was stopped."

    def forget(self, digest: str) -> None:
        """Forget a job that no longer runs."""
        self._seen.pop(digest, None)
