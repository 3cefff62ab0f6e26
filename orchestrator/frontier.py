"""Which jobs of a plan may start now. Holds no results and knows no cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum


class NodeState(StrEnum):
    """Where a job stands in this run."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"


class Frontier:
    """States of the jobs of one plan; a job is ready when all that it needs is done.

    The order in which jobs were given is the order in which ready ones are offered.
    """

    def __init__(self, needs: Mapping[str, Iterable[str]], done: Iterable[str] = ()) -> None:
        self._needs = {digest: set(wanted) for digest, wanted in needs.items()}
        self._order = {digest: position for position, digest in enumerate(self._needs)}
        self._dependents: dict[str, list[str]] = {digest: [] for digest in self._needs}
        for digest, wanted in self._needs.items():
            for other in wanted:
                self._dependents[other].append(digest)
        self._state = dict.fromkeys(self._needs, NodeState.WAITING)
        self._open = {digest: len(wanted) for digest, wanted in self._needs.items()}
        self._ready: dict[str, None] = {}
        self._sorted = True
        self._counts = Counter({NodeState.WAITING: len(self._needs)})
        for digest, count in self._open.items():
            if count == 0:
                self._make_ready(digest)
        for digest in done:
            if self._state[digest] is not NodeState.DONE:
                self.done(digest)

    def ready(self) -> list[str]:
        """Jobs that may start, in the plan's order."""
        if not self._sorted:
            self._ready = dict.fromkeys(sorted(self._ready, key=self._order.__getitem__))
            self._sorted = True
        return list(self._ready)

    def state(self, digest: str) -> NodeState:
        """Where one job stands."""
        return self._state[digest]

    def started(self, digest: str) -> None:
        """The job is running now."""
        self._ready.pop(digest, None)
        self._set(digest, NodeState.RUNNING)

    def done(self, digest: str) -> None:
        """The job's outcome is in the store; what waited for it may become ready."""
        self._ready.pop(digest, None)
        self._set(digest, NodeState.DONE)
        for dependent in self._dependents[digest]:
            self._open[dependent] -= 1
            if self._open[dependent] == 0 and self._state[dependent] is NodeState.WAITING:
                self._make_ready(dependent)

    def again(self, digest: str) -> None:
        """The job's attempt was lost or failed in a way that is retried."""
        self._make_ready(digest)

    def failed(self, digest: str) -> list[str]:
        """The job has failed for good; returns the jobs that can therefore never start."""
        self._ready.pop(digest, None)
        self._set(digest, NodeState.FAILED)
        blocked: list[str] = []
        stack = list(self._dependents[digest])
        while stack:
            dependent = stack.pop()
            if self._state[dependent] in (NodeState.WAITING, NodeState.READY):
                self._set(dependent, NodeState.BLOCKED)
                self._ready.pop(dependent, None)
                blocked.append(dependent)
                stack.extend(self._dependents[dependent])
        return blocked

    @property
    def finished(self) -> bool:
        """Whether nothing is left that could still run."""
        pending = (NodeState.WAITING, NodeState.READY, NodeState.RUNNING)
        return not any(self._counts[state] for state in pending)

    def count(self, state: NodeState) -> int:
        """Number of jobs in a state."""
        return self._counts[state]

    def _make_ready(self, digest: str) -> None:
        self._set(digest, NodeState.READY)
        self._sorted = False
        self._ready[digest] = None

    def _set(self, digest: str, state: NodeState) -> None:
        self._counts[self._state[digest]] -= 1
        self._counts[state] += 1
        self._state[digest] = state
