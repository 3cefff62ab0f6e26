"""What the scheduler needs of a place where jobs run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import Field

from orchestrator.jobs import BuildJob, EvalJob, Frozen, Task
from orchestrator.records import Failure, Outcome

BATCH_JOBS = 32
"""Most jobs that one engine is given at once; what is lost when it dies."""

Batch = tuple[BuildJob | EvalJob, ...]
"""Jobs that start together: one, or several that differ in their layer path alone."""


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
    """A place where jobs run. It decides nothing about retries and never sees the store."""

    def pick(self, ready: Sequence[BuildJob | EvalJob]) -> list[Batch]:
        """Of the jobs that are ready, in order of preference, those that can start now, batch by batch."""

    def seat_of(self, batch: Batch) -> Seat:
        """Where a picked batch will run."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start the attempts at one batch."""

    def wait(self, timeout_s: float) -> list[Finished]:
        """Attempts that have come back; waits at most timeout_s for the first."""

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        """End the work on an attempt, and what runs in one batch with it; they come back with this failure."""

    def homeless(self, ready: Sequence[BuildJob | EvalJob]) -> dict[str, str]:
        """Of the jobs that are ready those for which there has been no fitting node for long, with the reason."""

    def cancel(self) -> None:
        """Stop all work now."""


def batches(ready: Sequence[BuildJob | EvalJob], engines: int = 1) -> list[Batch]:
    """The jobs as they start together, in the order of each batch's first job, enough of them for so many engines.

    A job that ran out of memory comes back with a smaller batch size, which bounds its batch from then on.
    """
    groups: dict[str, list[BuildJob | EvalJob]] = {}
    for job in ready:
        key = job.batch_key if isinstance(job, EvalJob) else None
        groups.setdefault(key or job.digest, []).append(job)
    found: list[Batch] = []
    for group in groups.values():
        first = group[0]
        if len(group) == 1:  # the usual case of thousands of jobs, at every step of a run
            found.append((first,))
            continue
        most = min(BATCH_JOBS, (first.tuning.batch_size or BATCH_JOBS) if isinstance(first, EvalJob) else 1)
        most = max(1, min(most, -(-len(group) // engines)))
        found += [tuple(group[begin : begin + most]) for begin in range(0, len(group), most)]
    return found
