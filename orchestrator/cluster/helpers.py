"""Which engines that have nothing to do help which jobs. Knows no Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.plan.job import BuildJob, EvalJob, Task

AFTER_S = 30.0
"""How long a job has run before it is helped: until then it loads its model, or is nearly done."""
SPELL_S = 300.0
"""How long a helper takes on further requests before it is asked what else there is to do."""
_AGAIN_S = 5.0
_ORPHAN_S = 60.0


@dataclass
class EngineWork:
    """What one engine or node is doing: attempts at a batch, or help with the job of another engine's attempt."""

    tasks: tuple[Task, ...]
    place: Any
    helps: Task | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def shared(self) -> Task | None:
        """The attempt that others can help with; probes and builds are not shared."""
        job = self.tasks[0].job if len(self.tasks) == 1 else None
        return self.tasks[0] if isinstance(job, EvalJob) and not job.is_probe else None


class Helping:
    """Long evaluations are shared by requests: whoever is idle, or could be opened beside them, takes part."""

    def __init__(
        self,
        seconds: Callable[[BuildJob | EvalJob], float | None],
        start_s: Callable[[EvalJob], float],
        *,
        after_s: float = AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` says how long a job is expected to run, `start_s` how long its engine takes to open."""
        self._seconds = seconds
        self._start_s = start_s
        self._after_s = after_s
        self._clock = clock
        self._not_before: dict[str, float] = {}
        self._orphans: dict[int, float] = {}

    def task_for(self, key: str, running: Iterable[EngineWork]) -> Task | None:
        """The attempt that an idle engine with this key helps: the one with the fewest helpers."""
        works = list(running)
        found = [task for _, task in self._open(works) if _key(task) == key]
        return min(found, key=lambda task: _helpers(task, works), default=None)

    def wants_engine(self, running: Iterable[EngineWork]) -> EvalJob | None:
        """A job that a further engine would end sooner, its start included."""
        works = list(running)
        for work, task in self._open(works):
            elapsed = self._clock() - work.since
            # What runs longer than was thought is thought to be half done.
            left = max((self._seconds(task.job) or 0.0) - elapsed, 0.0) or elapsed
            assert isinstance(task.job, EvalJob)
            if left / (1 + _helpers(task, works)) > 2 * self._start_s(task.job):
                return task.job
        return None

    def begun(self, task: Task) -> None:
        """A new attempt: whatever was found out about helping the last one is void."""
        self._not_before.pop(task.job.digest, None)

    def ended(self, task: Task, *, more: bool) -> None:
        """A helper has come back; `more` tells whether there may be something left to take on."""
        self._not_before[task.job.digest] = self._clock() + _AGAIN_S if more else math.inf

    def left_over(self, running: Iterable[EngineWork]) -> list[EngineWork]:
        """Helpers whose job has ended long ago: they hang."""
        works = list(running)
        led = {work.tasks[0].attempt_id for work in works if work.tasks}
        now = self._clock()
        alone = {id(w): w for w in works if w.helps and w.helps.attempt_id not in led}
        self._orphans = {name: self._orphans.get(name, now) for name in alone}
        return [alone[name] for name, since in self._orphans.items() if now - since > _ORPHAN_S]

    def _open(self, works: list[EngineWork]) -> list[tuple[EngineWork, Task]]:
        """Attempts that can be helped now, and the work that leads each."""
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
