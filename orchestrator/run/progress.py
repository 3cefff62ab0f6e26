"""How far a run and its jobs are, who is told, and which jobs hang."""

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

# A checkpoint of hundreds of gigabytes is fetched and loaded, or a benchmark's answers are scored, without anything to count.
UNCOUNTED_S = 3600.0
# Requests are answered one by one; a quarter of an hour without a single one is no work any more.
COUNTED_S = 900.0


class JobProgress(Frozen):
    """How far one running job is, or several that run as one batch."""

    digest: str = Field(description="The job, or the first of the batch.")
    label: str = Field(description="What it does, for people.")
    stage: str = Field(description="What is being done.")
    done: int = Field(default=0, description="Requests answered.")
    total: int = Field(default=0, description="Requests in all; 0 where not known yet.")
    tokens: int = Field(default=0, description="Tokens that its engine has read and written.")
    engine_starts: bool = Field(default=False, description="Whether its engine is being started.")
    share_done: float | None = Field(
        default=None, description="Share of its own work that is done; null before anything is counted."
    )
    work_s: float = Field(default=0.0, description="Seconds of work after which it had done that share.")
    node: str | None = Field(default=None, description="The machine that it runs on, where known.")


class RunProgress(Frozen):
    """How far the run is."""

    counts: dict[NodeState, int] = Field(description="Jobs by state.")
    running: tuple[JobProgress, ...] = Field(description="What runs now.")
    elapsed_s: float = Field(description="Seconds since this process took the run.")
    ran: int = Field(description="Jobs that this process finished.")
    remaining_s: float | None = Field(
        default=None, description="Estimated seconds until the run ends; null where nothing is known."
    )
    waits_for: str | None = Field(
        default=None, description="What keeps the run from going on, in a sentence."
    )


class RunSummary(Frozen):
    """How the run ended."""

    run_id: str = Field(description="The run.")
    done: int = Field(description="Jobs whose outcome is in the store.")
    cached: int = Field(description="Of these, jobs that were there before.")
    failed: dict[str, str] = Field(description="Failed job to its message.")
    blocked: int = Field(description="Jobs that could not start because another failed.")
    duration_s: float = Field(description="Wall-clock seconds.")


class Reporter(Protocol):
    """Shows progress."""

    def update(self, progress: RunProgress) -> None:
        """Called about twice a second."""


class Observer(Protocol):
    """Counts what happens, for those who operate the cluster."""

    def finished(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """A job's outcome has been stored."""

    def failed(self, failure_class: FailureClass) -> None:
        """An attempt has failed, or the store did not answer."""

    def update(self, jobs_by_state: Mapping[str, int], tokens_by_job: Mapping[str, int]) -> None:
        """Called about twice a second, with the tokens of each running job so far."""


def read_progress(journals: Path, digest: str, label: str, node: str | None = None) -> JobProgress:
    """What the worker has written down last."""
    try:
        data = json.loads((journals / digest / "progress.json").read_text())
        return JobProgress.model_validate({**data, "digest": digest, "label": label, "node": node})
    except (OSError, ValueError, TypeError):
        return JobProgress(digest=digest, label=label, stage="starting", node=node)


def progress_age_s(journals: Path, digest: str) -> float:
    """Seconds since the worker wrote that down; 0 where it has not."""
    try:
        return max(0.0, time.time() - (journals / digest / "progress.json").stat().st_mtime)
    except OSError:
        return 0.0


class Watchdog:
    """Notices jobs that have stopped moving."""

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
        """Why a job counts as hung, as a sentence; None where it moves, or may still."""
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
        return f"Nothing has moved for {now - since:.0f} s {where}; its engine was ended."

    def forget(self, digest: str) -> None:
        """The job does not run any more."""
        self._seen.pop(digest, None)
