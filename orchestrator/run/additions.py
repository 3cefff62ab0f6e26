"""What adds candidates to a run while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from orchestrator.plan.plan import Plan
from orchestrator.run.job_state import NodeState
from orchestrator.store.records import RunLease


class Additions(Protocol):
    """Adds candidates to a run while it runs, for example a search that learns from what was evaluated."""

    @property
    def ended(self) -> bool:
        """Whether it has nothing to add any more."""

    @property
    def later(self) -> Mapping[str, int]:
        """Expected number of evaluations that it will add later, by engine key; decides how many engines are worth their start."""

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """Plans with further jobs, which it has stored as part of the run; called several times a second."""
