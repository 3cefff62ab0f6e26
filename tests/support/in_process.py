"""Plans run by the real scheduler, store and worker in this process: Ray and its start are left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import pytest

from orchestrator.cluster import Batch, Executor, Finished, ReadyJobs, Seat
from orchestrator.plan.capacity import this_machine
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import BuildJob, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run import run as runs
from orchestrator.run.run import GrowingRun, register
from orchestrator.run.scheduler import Reporter, RunProgress, RunSummary, Scheduler
from orchestrator.search.grid_scan import Ground
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import Failure
from orchestrator.worker.worker import EngineHost, WorkerContext, run_build


class InProcess:
    """An executor with one engine, which answers when it is waited for."""

    def __init__(self, settings: Settings, facts: object = None, **placement: object) -> None:
        self._context = WorkerContext(
            home=str(settings.home), datasets=None, merge_memory_bytes=settings.merge_memory_bytes
        )
        self._host = EngineHost(self._context)
        self._waiting: list[tuple[Task, ...]] = []
        self.batches: list[int] = []

    def expect(self, needs: Mapping[str, EngineNeed], later: Mapping[str, int]) -> None:
        """It has no memory to plan."""

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        if self._waiting:
            return []
        builds: list[Batch] = [(job,) for job in ready.builds()]
        return (builds + [ready.queue(key).take() for key in ready.first_of_each()])[:1]

    def seat_of(self, batch: Batch) -> Seat:
        return Seat()

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        raise AssertionError(f"{attempt_id} was given up: {failure.message}")

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        return {}

    def submit(self, tasks: Sequence[Task]) -> None:
        self._waiting.append(tuple(tasks))

    def wait(self, timeout_s: float) -> list[Finished]:
        if not self._waiting:
            return []
        tasks = self._waiting.pop()
        self.batches.append(len(tasks))
        job = tasks[0].job
        outcomes = (
            (run_build(self._context, tasks[0].attempt_id, job),)
            if isinstance(job, BuildJob)
            else self._host.run(tasks)
        )
        return [
            Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]

    def cancel(self) -> None:
        self._host.close()


class Silent:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.seen: list[RunProgress] = []

    def update(self, progress: RunProgress) -> None:
        self.seen.append(progress)


@contextlib.contextmanager
def silently(what: str) -> Iterator[Reporter]:
    yield Silent()


def run_here(
    plan: Plan, settings: Settings, reporter: Reporter, grows: GrowingRun | None = None
) -> RunSummary:
    """What `orchestrator.run.run.execute` does, in this process."""
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan, run_id=grows.run_id if grows else None)
        additions = grows.begin(store) if grows else None
        scheduler = Scheduler(
            store, plan, run_id=run_id, settings=settings, reporter=reporter, additions=additions
        )
        executor: Executor = InProcess(settings)
        return scheduler.nothing_to_do() or scheduler.run(executor)


def all_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run of this process from now on, commands included."""
    monkeypatch.setattr(runs, "usable_nodes", lambda settings, address: this_machine())
    monkeypatch.setattr(runs, "disconnect", lambda: None)
    monkeypatch.setattr(runs, "RayExecutor", InProcess)


def ground_here(settings: Settings, seen: list[RunSummary] | None = None) -> Ground:
    """Plans and runs in this process; `seen` collects how the runs ended."""

    def run(plan: Plan, reporter: Reporter) -> RunSummary:
        summary = run_here(plan, settings, reporter)
        if seen is not None:
            seen.append(summary)
        return summary

    def grow(plan: Plan, reporter: Reporter, grows: GrowingRun) -> RunSummary:
        return run_here(plan, settings, reporter, grows)

    return Ground(lambda file: make_plan(file, settings), run, grow, this_machine())
