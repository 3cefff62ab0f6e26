"""The rounds of a race, as additions to a run that grows.

A round begins when every job of the round before has ended, so that who leaves follows from the answers alone: not from the order in
which engines finish, their number, or where the command was stopped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from orchestrator.plan.plan import Plan, PlannedEval
from orchestrator.run.additions import Additions
from orchestrator.run.job_state import NodeState
from orchestrator.run.plan_records import planned_jobs
from orchestrator.store import Store
from orchestrator.store.records import RunLease

_ENDED = (NodeState.DONE, NodeState.FAILED, NodeState.BLOCKED)


class RaceRounds(Additions):
    """The rounds of a race whose plan holds the whole evaluations."""

    def __init__(self, plan: Plan, store: Store, first: Sequence[PlannedEval], n_rounds: int) -> None:
        """`first` are the evaluations that the run begins with; at most `n_rounds` rounds follow."""
        self._plan = plan
        self._store = store
        self._rounds_left = n_rounds
        self._engines: Counter[str] = Counter()
        self._jobs = {planned.job.digest for planned in first}
        self._pending: Plan | None = None
        self._is_last = False
        self._replay()

    @property
    def ended(self) -> bool:
        """Whether the last round has been added to the run."""
        return self._is_last and self._pending is None

    @property
    def later(self) -> Mapping[str, int]:
        """Evaluations of the rounds to come, if half of the candidates leave at each look, by engine key."""
        shares = [0.5**look for look in range(1, self._rounds_left + 1)]
        return {key: round(count * sum(shares)) for key, count in self._engines.items()}

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """The next round, if every job of this one has ended."""
        if self._pending is None:
            if self._is_last or any(state_of(digest) not in _ENDED for digest in self._jobs):
                return ()
            self._pending = self._next()
        # Pending until it is stored: the store may be lost in between, and the scheduler asks again.
        if not self._store.add_jobs(lease, planned_jobs(self._pending)):
            return ()
        plan, self._pending = self._pending, None
        return (plan,)

    @abstractmethod
    def next_round(self) -> tuple[tuple[PlannedEval, ...], bool]:
        """The evaluations of the next round, and whether it is the last one; they follow from the rounds in the store."""

    def _replay(self) -> None:
        """Pass the rounds whose answers are all in the store; the first other one is pending."""
        while not self._is_last and self._store.done(self._jobs) == self._jobs:
            plan = self._next()
            if self._store.done(self._jobs) != self._jobs:
                self._pending = plan

    def _next(self) -> Plan:
        evals, self._is_last = self.next_round()
        self._jobs = {planned.job.digest for planned in evals}
        self._engines = Counter(planned.job.engine_key for planned in evals)
        self._rounds_left = 0 if self._is_last else self._rounds_left - 1
        return self._plan.model_copy(update={"evals": evals})
