"""What a run knows of each of its jobs, and which of them may start now. Holds no results and knows no cluster."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.store.records import FailureClass

Group = TypeVar("Group", bound=Hashable)


class NodeState(StrEnum):
    """Where a job stands in this run. One that must not start for now, after a failure for example, is waiting."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass(slots=True)
class RunJob:
    """One job of a run, besides where it stands."""

    job: BuildJob | EvalJob
    """As it is tried next: a retry may change batch size or memory, which are no identity."""
    label: str
    """What it does, for people."""
    attempt_id: str | None = None
    """Its attempt that runs now."""
    node: str | None = None
    """The machine of its last attempt, where known."""
    failures: Counter[FailureClass] = field(default_factory=Counter)
    """How often attempts of this run failed, by class."""
    message: str | None = None
    """Why it failed for good."""
    rests_until: float | None = None
    """Not to be started before this time of the monotonic clock."""

    def rest(self, seconds: float) -> None:
        """Start no attempt for so many seconds."""
        self.rests_until = time.monotonic() + seconds

    def has_rested(self, now: float) -> bool:
        """Whether it was to rest, and may start again."""
        return self.rests_until is not None and self.rests_until <= now


class Frontier(Generic[Group]):
    """States of the jobs of one plan; a job is ready when all that it needs is done.

    The order in which jobs were given is the order in which ready ones are offered. They are kept by `group`, so that who
    needs a few of tens of thousands need not look at all of them; it is asked anew each time a job becomes ready.
    """

    def __init__(
        self, needs: Mapping[str, Iterable[str]], done: Iterable[str] = (), *, group: Callable[[str], Group]
    ) -> None:
        self._needs = {digest: set(wanted) for digest, wanted in needs.items()}
        self._order = {digest: position for position, digest in enumerate(self._needs)}
        self._dependents: dict[str, list[str]] = {digest: [] for digest in self._needs}
        for digest, wanted in self._needs.items():
            for other in wanted:
                self._dependents[other].append(digest)
        self._state = dict.fromkeys(self._needs, NodeState.WAITING)
        self._open = {digest: len(wanted) for digest, wanted in self._needs.items()}
        self._group = group
        self._ready: dict[Group, OrderedDict[str, None]] = {}
        self._group_of: dict[str, Group] = {}
        self._unsorted: set[Group] = set()
        self._counts = Counter({NodeState.WAITING: len(self._needs)})
        for digest, count in self._open.items():
            if count == 0:
                self._make_ready(digest)
        for digest in done:
            self.done(digest)

    def ready(self) -> dict[Group, Collection[str]]:
        """Jobs that may start, by group, in the plan's order; valid until a state changes."""
        for group in self._unsorted & self._ready.keys():
            self._ready[group] = OrderedDict.fromkeys(sorted(self._ready[group], key=self.position))
        self._unsorted.clear()
        groups = sorted(self._ready, key=lambda group: self.position(next(iter(self._ready[group]))))
        return {group: self._ready[group].keys() for group in groups}

    def position(self, digest: str) -> int:
        """A job's place in the plan's order."""
        return self._order[digest]

    def state(self, digest: str) -> NodeState:
        """Where one job stands."""
        return self._state[digest]

    def started(self, digest: str) -> None:
        """The job is running now."""
        self._set(digest, NodeState.RUNNING)

    def rest(self, digest: str) -> None:
        """The job must not start for now; `again` offers it again."""
        self._set(digest, NodeState.WAITING)

    def done(self, digest: str) -> None:
        """The job's outcome is in the store; what waited for it may become ready. Said twice, it is done once."""
        if self._state[digest] is NodeState.DONE:
            return
        self._set(digest, NodeState.DONE)
        for dependent in self._dependents[digest]:
            self._open[dependent] -= 1
            if self._open[dependent] == 0 and self._state[dependent] is NodeState.WAITING:
                self._make_ready(dependent)

    def again(self, digest: str) -> None:
        """The job may start once more, after its attempt was lost or failed in a way that is retried."""
        self._make_ready(digest)

    def failed(self, digest: str) -> list[str]:
        """The job has failed for good; returns the jobs that can therefore never start."""
        self._set(digest, NodeState.FAILED)
        blocked: list[str] = []
        stack = list(self._dependents[digest])
        while stack:
            dependent = stack.pop()
            if self._state[dependent] in (NodeState.WAITING, NodeState.READY):
                self._set(dependent, NodeState.BLOCKED)
                blocked.append(dependent)
                stack.extend(self._dependents[dependent])
        return blocked

    @property
    def finished(self) -> bool:
        """Whether nothing is left that could still run."""
        pending = (NodeState.WAITING, NodeState.READY, NodeState.RUNNING)
        return not any(self._counts[state] for state in pending)

    def pending(self) -> Iterator[str]:
        """Jobs that have not started and may still do so."""
        return (d for d, s in self._state.items() if s is NodeState.WAITING or s is NodeState.READY)

    def count(self, state: NodeState) -> int:
        """Number of jobs in a state."""
        return self._counts[state]

    def _make_ready(self, digest: str) -> None:
        self._set(digest, NodeState.READY)
        group = self._group_of[digest] = self._group(digest)
        self._ready.setdefault(group, OrderedDict())[digest] = None
        self._unsorted.add(group)

    def _set(self, digest: str, state: NodeState) -> None:
        if self._state[digest] is NodeState.READY:
            group = self._group_of.pop(digest)
            del self._ready[group][digest]
            if not self._ready[group]:
                del self._ready[group]
        self._counts[self._state[digest]] -= 1
        self._counts[state] += 1
        self._state[digest] = state


def job_labels(plan: Plan) -> dict[str, str]:
    """What each job does, for people, by digest."""
    labels: dict[str, str] = {}
    for candidate in plan.candidates:
        if candidate.build is not None:
            labels.setdefault(candidate.build.digest, f"build {candidate.name}")
    for planned in plan.evals:
        job = planned.job
        labels.setdefault(job.digest, f"{planned.candidate}: {job.suite} {job.benchmark}")
    return labels
