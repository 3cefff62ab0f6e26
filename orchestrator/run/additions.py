"""What adds candidates to a run while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.plan.plan import Plan
from orchestrator.run.job_state import NodeState
from orchestrator.store.records import RunLease


class Additions(Protocol):
    """Adds candidates to a run while it runs, for example a search that learns from what was evaluated."""

    @property
    def ended(self) -> bool:
        """Whether it has nothing to add any more."""

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """Plans with further jobs, which it has stored as part of the run; called several times a second."""
