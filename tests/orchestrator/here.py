"""The real worker in this process instead of on Ray, for tests that are about what comes before and after a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator import runs
from orchestrator.executors import Batch, Finished, Seat
from orchestrator.jobs import BuildJob, EvalJob, Task
from orchestrator.records import Failure
from orchestrator.settings import Settings
from orchestrator.worker import EngineHost, WorkerContext, run_build


class HereExecutor:
    """Runs each batch to its end when it is submitted."""

    def __init__(self, settings: Settings, facts: object, **placement: object) -> None:
        self._context = WorkerContext(home=str(settings.home), datasets=None)
        self._host = EngineHost(self._context)
        self._finished: list[Finished] = []

    def pick(self, ready: Sequence[BuildJob | EvalJob]) -> list[Batch]:
        """One at a time."""
        return [(ready[0],)]

    def seat_of(self, batch: Batch) -> Seat:
        """Here."""
        return Seat()

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        """Nothing runs between calls."""

    def homeless(self, ready: Sequence[BuildJob | EvalJob]) -> dict[str, str]:
        """None is."""
        return {}

    def submit(self, tasks: Sequence[Task]) -> None:
        """Run now."""
        task = tasks[0]
        outcomes: tuple[Any, ...] = (
            (run_build(self._context, task.attempt_id, task.job),)
            if isinstance(task.job, BuildJob)
            else self._host.run(tasks)
        )
        self._finished += [
            Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]

    def wait(self, timeout_s: float) -> list[Finished]:
        """What is done."""
        done, self._finished = self._finished, []
        return done

    def cancel(self) -> None:
        """Nothing runs between calls."""
        self._host.close()


def run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run of this process from now on."""
    monkeypatch.setattr(runs, "usable_nodes", lambda settings, address: None)
    monkeypatch.setattr(runs, "disconnect", lambda: None)
    monkeypatch.setattr(runs, "RayExecutor", HereExecutor)
