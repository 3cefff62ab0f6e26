"""States of a run's jobs, and which of them may start now. Independent of the store and the cluster."""

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
    """State of a job in this run. A job that must not start yet, for example after a failure, is waiting."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass(slots=True)
class RunJob:
    """One job of a run, without its state."""

    job: BuildJob | EvalJob
    """The job as it is tried next: a retry may change batch size or memory, which are not identity."""
    label: str
    """Description for display."""
    attempt_id: str | None = None
    """Id of the running attempt."""
    node: str | None = None
    """Host of the last attempt, if known."""
    failures: Counter[FailureClass] = field(default_factory=Counter)
    """Number of failed attempts of this run, by class."""
    message: str | None = None
    """Reason of its final failure."""
    rests_until: float | None = None
    """Earliest start on the monotonic clock."""

    def rest(self, seconds: float) -> None:
        """Allow no attempt for this number of seconds."""
        self.rests_until = time.monotonic() + seconds

    def has_rested(self, now: float) -> bool:
        """Whether it had a pause that is over."""
        return self.rests_until is not None and self.rests_until <= now


class Frontier(Generic[Group]):
    """States of a plan's jobs; a job is ready when all its prerequisites are done.

    Ready jobs are offered in the order of the plan. They are kept by `group`, so that a caller can select a few
    out of tens of thousands; `group` is called each time a job becomes ready. `waits` gives those prerequisites of a job that
    only have to end: if one fails, the job does not.
    """

    def __init__(
        self,
        needs: Mapping[str, Iterable[str]],
        done: Iterable[str] = (),
        *,
        group: Callable[[str], Group],
        waits: Callable[[str], Collection[str]] = lambda digest: (),
    ) -> None:
        self._order: dict[str, int] = {}
        self._dependents: dict[str, list[str]] = {}
        self._state: dict[str, NodeState] = {}
        self._open: dict[str, int] = {}
        self._group = group
        self._waits = waits
        self._freed: set[tuple[str, str]] = set()
        self._ready: dict[Group, OrderedDict[str, None]] = {}
        self._group_of: dict[str, Group] = {}
        self._unsorted: set[Group] = set()
        self._counts: Counter[NodeState] = Counter()
        self.add(needs, done)

    def add(self, needs: Mapping[str, Iterable[str]], done: Iterable[str] = ()) -> None:
        """Add jobs after the others; their prerequisites are among them or were added before."""
        new = {digest: set(prerequisites) for digest, prerequisites in needs.items()}
        for digest in new:
            self._order[digest] = len(self._order)
            self._dependents[digest] = []
            self._state[digest] = NodeState.WAITING
        self._counts[NodeState.WAITING] += len(new)
        for digest, prerequisites in new.items():
            for prerequisite in prerequisites:
                self._dependents[prerequisite].append(digest)
            lost = {p for p in prerequisites if self._state[p] in (NodeState.FAILED, NodeState.BLOCKED)}
            freed = lost & set(self._waits(digest))
            self._freed |= {(p, digest) for p in freed}
            self._open[digest] = sum(self._state[p] is not NodeState.DONE for p in prerequisites - freed)
            if self._open[digest] == 0:
                self._make_ready(digest)
            elif lost - freed:
                self._set(digest, NodeState.BLOCKED)
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
        """Index of a job in the plan's order."""
        return self._order[digest]

    def state(self, digest: str) -> NodeState:
        """State of one job."""
        return self._state[digest]

    def started(self, digest: str) -> None:
        """Mark a job as running."""
        self._set(digest, NodeState.RUNNING)

    def rest(self, digest: str) -> None:
        """Mark a job as waiting, until `again` makes it ready."""
        self._set(digest, NodeState.WAITING)

    def done(self, digest: str) -> None:
        """Mark a job as done, and dependents without open prerequisites as ready. Idempotent."""
        if self._state[digest] is NodeState.DONE:
            return
        self._set(digest, NodeState.DONE)
        for dependent in self._dependents[digest]:
            if (digest, dependent) not in self._freed:
                self._prerequisite_ended(dependent)

    def again(self, digest: str) -> None:
        """Make a job ready again, after a lost attempt or a failure that is retried, unless it waits for prerequisites."""
        if self._open[digest] == 0:
            self._make_ready(digest)

    def reopen(self, digest: str) -> None:
        """Make a job ready that was done, and whose result is gone; jobs that are added later wait for it."""
        self._dependents[digest] = []
        self._make_ready(digest)

    def require(self, digest: str, prerequisites: Collection[str]) -> None:
        """Let a job that has not started wait for further prerequisites as well; if these are done, it is ready."""
        self._set(digest, NodeState.WAITING)
        for prerequisite in prerequisites:
            self._dependents[prerequisite].append(digest)
        self._open[digest] += sum(self._state[p] is not NodeState.DONE for p in prerequisites)
        if any(self._state[p] in (NodeState.FAILED, NodeState.BLOCKED) for p in prerequisites):
            self._set(digest, NodeState.BLOCKED)
        elif self._open[digest] == 0:
            self._make_ready(digest)

    def failed(self, digest: str) -> list[str]:
        """Mark a job as failed; returns the dependent jobs that are now blocked. Those that only wait for its end may go on."""
        self._set(digest, NodeState.FAILED)
        blocked: list[str] = []
        stack = [digest]
        while stack:
            lost = stack.pop()
            for dependent in self._dependents[lost]:
                if self._state[dependent] not in (NodeState.WAITING, NodeState.READY):
                    continue
                if lost not in self._waits(dependent):
                    self._set(dependent, NodeState.BLOCKED)
                    blocked.append(dependent)
                    stack.append(dependent)
                elif (lost, dependent) not in self._freed:
                    self._freed.add((lost, dependent))
                    self._prerequisite_ended(dependent)
        return blocked

    @property
    def finished(self) -> bool:
        """Whether no job is waiting, ready or running."""
        pending = (NodeState.WAITING, NodeState.READY, NodeState.RUNNING)
        return not any(self._counts[state] for state in pending)

    def pending(self) -> Iterator[str]:
        """Digests of the jobs that are waiting or ready."""
        return (d for d, s in self._state.items() if s is NodeState.WAITING or s is NodeState.READY)

    def count(self, state: NodeState) -> int:
        """Number of jobs in a state."""
        return self._counts[state]

    def _prerequisite_ended(self, digest: str) -> None:
        self._open[digest] -= 1
        if self._open[digest] == 0 and self._state[digest] is NodeState.WAITING:
            self._make_ready(digest)

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
    """Description of each job for display, by digest."""
    labels: dict[str, str] = {}
    for candidate in plan.candidates:
        if candidate.build is not None:
            labels.setdefault(candidate.build.digest, f"build {candidate.name}")
    for planned in plan.evals:
        job = planned.job
        labels.setdefault(job.digest, f"{planned.candidate}: {job.suite} {job.benchmark}")
    return labels
