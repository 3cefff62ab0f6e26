"""What the scheduler needs of a place where jobs run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import Field

from evals.engine import Frozen
from orchestrator.cluster.queue import Batch, ReadyJobs
from orchestrator.plan.job import Task
from orchestrator.store.records import Failure, Outcome


class Finished(Frozen):
    """An attempt that has come back."""

    attempt_id: str = Field(description="Id of the attempt in the store.")
    job_digest: str = Field(description="The job.")
    outcome: Outcome = Field(description="What the worker returned, or why it could not.")


class Seat(Frozen):
    """Where a batch runs; null where that is not known before it does."""

    node: str | None = Field(default=None, description="The machine.")
    worker: str | None = Field(
        default=None, description="The engine's process: who shares it, shares its time."
    )


class Executor(Protocol):
    """A place where jobs run. It decides nothing about retries and never sees the store.

    `ReadyJobs` are a view of the run's state: what an executor wants to keep of them it takes out before it returns.
    """

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        """Of the jobs that are ready those that can start now, batch by batch."""

    def seat_of(self, batch: Batch) -> Seat:
        """Where a picked batch will run."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start the attempts at one batch."""

    def wait(self, timeout_s: float) -> list[Finished]:
        """Attempts that have come back; waits at most timeout_s for the first."""

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        """End the work on an attempt, and what runs in one batch with it; they come back with this failure."""

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        """Of the jobs that are ready those for which there has been no fitting node for long, with the reason."""

    def cancel(self) -> None:
        """Stop all work now."""
