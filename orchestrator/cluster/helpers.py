"""Decides which idle engines help with which evaluations. Independent of Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.plan.job import BuildJob, EvalJob, Task

AFTER_S = 30.0
"""Run time after which a job is helped: shorter jobs still load the model, or are nearly done."""
SPELL_S = 300.0
"""Seconds for which a helper takes further requests before it is assigned again."""
_AGAIN_S = 5.0
_ORPHAN_S = 60.0


@dataclass
class EngineWork:
    """Current work of an engine or node: attempts of a batch, or help with another engine's attempt."""

    tasks: tuple[Task, ...]
    place: Any
    helps: Task | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def shared(self) -> Task | None:
        """The attempt that other engines can help with; None for probes, builds and batches.

        An evaluation that may stop early is not shared: a helper would ask documents that are never needed.
        """
        job = self.tasks[0].job if len(self.tasks) == 1 else None
        shared = isinstance(job, EvalJob) and not job.is_probe and job.decide is None
        return self.tasks[0] if shared else None


class Helping:
    """Shares the requests of long evaluations with engines that are idle or can be opened."""

    def __init__(
        self,
        seconds: Callable[[BuildJob | EvalJob], float | None],
        start_s: Callable[[EvalJob], float],
        *,
        after_s: float = AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` gives the expected duration of a job, `start_s` the expected start time of its engine."""
        self._seconds = seconds
        self._start_s = start_s
        self._after_s = after_s
        self._clock = clock
        self._not_before: dict[str, float] = {}
        self._orphans: dict[int, float] = {}

    def task_for(self, key: str, running: Iterable[EngineWork]) -> Task | None:
        """The attempt that an idle engine with this key should help: the one with the fewest helpers."""
        works = list(running)
        tasks = [task for _, task in self._open(works) if _key(task) == key]
        return min(tasks, key=lambda task: _helpers(task, works), default=None)

    def wants_engine(self, running: Iterable[EngineWork]) -> EvalJob | None:
        """A job that would end sooner with another engine, including that engine's start."""
        works = list(running)
        for work, task in self._open(works):
            elapsed = self._clock() - work.since
            # A job that exceeds its expected duration is assumed to be half done.
            remaining_s = max((self._seconds(task.job) or 0.0) - elapsed, 0.0) or elapsed
            assert isinstance(task.job, EvalJob)
            if remaining_s / (1 + _helpers(task, works)) > 2 * self._start_s(task.job):
                return task.job
        return None

    def begun(self, task: Task) -> None:
        """Allow help for a new attempt, whatever the last attempt's helpers reported."""
        self._not_before.pop(task.job.digest, None)

    def ended(self, task: Task, *, more: bool) -> None:
        """Record that a helper has returned; `more` tells whether requests may be left."""
        self._not_before[task.job.digest] = self._clock() + _AGAIN_S if more else math.inf

    def left_over(self, running: Iterable[EngineWork]) -> list[EngineWork]:
        """Helpers that hang: their job ended more than `_ORPHAN_S` ago."""
        works = list(running)
        led = {work.tasks[0].attempt_id for work in works if work.tasks}
        now = self._clock()
        orphans = {id(w): w for w in works if w.helps and w.helps.attempt_id not in led}
        self._orphans = {name: self._orphans.get(name, now) for name in orphans}
        return [orphans[name] for name, since in self._orphans.items() if now - since > _ORPHAN_S]

    def _open(self, works: list[EngineWork]) -> list[tuple[EngineWork, Task]]:
        """Attempts that can be helped now, with the work of their leading engines."""
        now = self._clock()
        return [
            (work, task)
            for work in works
            if (task := work.shared) is not None
            and now - work.since >= self._after_s
            and now >= self._not_before.get(task.job.digest, 0.0)
        ]


def _key(task: Task) -> str:
    assert isinstance(task.job, EvalJob)
    return task.job.engine_key


def _helpers(task: Task, works: list[EngineWork]) -> int:
    return sum(work.helps is not None and work.helps.attempt_id == task.attempt_id for work in works)
