"""The executor's decisions on a clock that is only turned on: what a schedule is worth, whatever else the machine does."""

from __future__ import annotations

from typing import Any

from benchmarks.simulated_jobs import START_S, SleepingHost, duration_of, evaluation_of
from orchestrator.cluster import Finished, RayExecutor
from orchestrator.cluster.engines import LiveEngine
from orchestrator.cluster.placement import Spot


class VirtualEngine(LiveEngine):
    """An engine whose jobs end on a clock that is only turned on."""

    def __init__(self, key: str, spot: Spot, clock: Clock) -> None:
        super().__init__(key, spot, None, None)
        self._clock = clock
        self._free_at = clock.now + START_S

    def is_reserved(self) -> bool:
        """At once."""
        return True

    def run(self, tasks: tuple[Any, ...]) -> Any:
        """When the batch will be done, as the reference that is waited for."""
        self.take()
        self._free_at = max(self._free_at, self._clock.now) + sum(duration_of(task.job) for task in tasks)
        return (self._free_at, self.id)

    def close(self) -> Any:
        """Closed at once."""
        return ("closed", self.id)

    def is_closed(self) -> bool:
        """At once."""
        return True

    def is_closed_in_order(self) -> bool:
        """Always."""
        return True

    def process_group(self) -> None:
        """There are no processes."""

    def kill(self) -> None:
        """Nothing to end."""

    def release(self) -> None:
        """Nothing is reserved."""


class Clock:
    """Time as far as the simulation has come."""

    now = 0.0


class VirtualExecutor(RayExecutor):
    """The executor's own decisions about where and when, without Ray: what a schedule is worth, whatever else the machine does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.clock = Clock()
        self._answers = SleepingHost(None)

    def wait(self, timeout_s: float) -> list[Finished]:
        """The next batch to end."""
        for engine in list(self._engines):
            if engine.works and not any(work.place is engine for work in self._running.values()):
                self._worked(engine)
        if not self._running:
            # Engines that have just been asked for are given work at the next turn.
            return []
        reference = min(self._running)
        work = self._running.pop(reference)
        tasks, place = work.tasks, work.place
        assert isinstance(place, LiveEngine)
        self.clock.now = reference[0]
        self._worked(place)
        answers = [self._answers.answer(evaluation_of(task), 0.0) for task in tasks]
        return [
            Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)
            for task, outcome in zip(tasks, answers, strict=True)
        ]

    def _look_around(self) -> None:
        """Nodes neither come nor go."""

    def _start(self, key: str, spot: Spot) -> LiveEngine:
        return VirtualEngine(key, spot, self.clock)
