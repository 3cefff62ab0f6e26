"""Interface between the scheduler and the place where jobs run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import Field

from evals.engine import Frozen
from orchestrator.cluster.queue import Batch, ReadyJobs
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import Task
from orchestrator.store.records import Failure, Outcome


class Finished(Frozen):
    """An attempt that has ended."""

    attempt_id: str = Field(description="Id of the attempt in the store.")
    job_digest: str = Field(description="The job.")
    outcome: Outcome = Field(description="Result of the worker, or its failure.")


class Seat(Frozen):
    """Node and engine that a batch runs on; null if not known before the start."""

    node: str | None = Field(default=None, description="Host name of the node.")
    worker: str | None = Field(
        default=None, description="Id of the engine; attempts on the same engine share its time."
    )


class Executor(Protocol):
    """Runs jobs. Does not decide about retries and has no access to the store.

    `ReadyJobs` is a view of the run's state: an executor copies what it keeps before it returns.
    """

    def expect(self, needs: Mapping[str, EngineNeed], later: Mapping[str, int]) -> None:
        """Take the memory needs of further engines, and the number of evaluations that will join the run later, by engine key."""

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        """Select the batches of ready jobs that can start now."""

    def seat_of(self, batch: Batch) -> Seat:
        """Node and engine on which a picked batch will run."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Start the attempts of one batch."""

    def wait(self, timeout_s: float) -> list[Finished]:
        """Attempts that have ended; waits at most `timeout_s` for the first."""

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        """Stop an attempt and its whole batch; `wait` returns them with this failure."""

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        """Ready jobs that no node has been able to hold for a long time, with the reason."""

    def cancel(self) -> None:
        """Stop all work now."""
