"""What adds candidates to a run while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
        """Expected number of evaluations that it will add later, by engine key.

        Decides how many engines are worth their start, and is part of the estimate of the remaining time.
        """

    def take_builds(self, builds: Collection[str]) -> None:
        """Take the digests of builds that joined the run because an engine refused a layer path; by default nothing is done with them."""
        return

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """Plans with further jobs, which it has stored as part of the run; called several times a second."""
