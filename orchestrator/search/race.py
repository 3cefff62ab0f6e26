"""Races layer paths over the questions of a scan's search set, as additions to a run that grows.

    base        the checkpoint itself on all questions
    parts       every path on a part of each probe's questions; who cannot be among the best any more leaves
    the rest    whoever is left on all questions: ordinary evaluations, which find their earlier answers in the journal

A round begins when every job of the round before has ended, so that who leaves follows from the answers alone: not from the order in
which engines finish, their number, or where the command was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evals.engine import digest_of
from evals.layer_visits import VisitPath as Layers
from evals.probes.race import RacePlan
from orchestrator.compare.races import read_race
from orchestrator.plan.plan import Plan, PlannedEval
from orchestrator.plan.race import part_evals
from orchestrator.run.job_state import NodeState
from orchestrator.run.run import planned_jobs, run_id_of
from orchestrator.store import Store
from orchestrator.store.records import RunLease

_ENDED = (NodeState.DONE, NodeState.FAILED, NodeState.BLOCKED)


def race_run_id(plan: Plan, race: RacePlan) -> str:
    """Id of the run of a race: another one than that of the scan of all questions."""
    name, _, _ = run_id_of(plan).rpartition("-")
    return f"{name}-race-{digest_of([plan.digest, race.model_dump(mode='json')])[:8]}"


def first_plan(plan: Plan, race: RacePlan) -> Plan:
    """What the run of a race begins with: all candidates, and the base's jobs."""
    return plan.model_copy(update={"evals": _base_evals(plan), "race": race})


def survivors_plan(plan: Plan, survivors: Sequence[Layers]) -> Plan:
    """The plan of the base and of the paths that are asked everything."""
    evals = (p for p in plan.evals if p.job.layer_path in set(survivors))
    return plan.model_copy(update={"evals": (*_base_evals(plan), *evals)})


class PathRace:
    """The rounds of a race."""

    def __init__(self, plan: Plan, race: RacePlan, store: Store, home: Path) -> None:
        """`plan` is that of the scan of all questions."""
        self._plan = plan
        self._race = race
        self._store = store
        self._home = home
        self._parts: list[tuple[PlannedEval, ...]] = []
        self._jobs = {planned.job.digest for planned in _base_evals(plan)}
        self._pending: Plan | None = None
        self._is_last = False
        self._replay()

    @property
    def ended(self) -> bool:
        """Whether the last round has been added to the run."""
        return self._is_last and self._pending is None

    @property
    def later(self) -> Mapping[str, int]:
        """Nothing: the first round has the most evaluations, so that its engines are enough for the others."""
        return {}

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """The next round, if every job of this one has ended."""
        plan, self._pending = self._pending, None
        if plan is None:
            if self._is_last or any(state_of(digest) not in _ENDED for digest in self._jobs):
                return ()
            plan = self._next()
        return (plan,) if self._store.add_jobs(lease, planned_jobs(plan)) else ()

    def _replay(self) -> None:
        """Pass the rounds whose answers are all in the store; the first other one is pending."""
        while not self._is_last and self._store.done(self._jobs) == self._jobs:
            plan = self._next()
            if self._store.done(self._jobs) != self._jobs:
                self._pending = plan

    def _next(self) -> Plan:
        """The plan of the next round; who leaves before it follows from the rounds in the store."""
        survivors = self._survivors()
        look = len(self._parts)
        self._is_last = look == len(self._race.shares) or not survivors
        if self._is_last:
            evals = tuple(p for p in self._plan.evals if p.job.layer_path in survivors)
        else:
            evals = tuple(
                p for p in part_evals(self._plan, self._race, look) if p.job.layer_path in survivors
            )
            self._parts.append(evals)
        self._jobs = {planned.job.digest for planned in evals}
        return self._plan.model_copy(update={"evals": evals})

    def _survivors(self) -> set[Layers]:
        base = _base_evals(self._plan)
        if not self._parts:
            paths: set[Layers] = {p.job.layer_path for p in self._plan.evals if p.job.layer_path is not None}
            has_base = self._store.done(p.job.digest for p in base) == {p.job.digest for p in base}
            return paths if has_base else set()
        jobs = [planned.job for planned in (*base, *(p for part in self._parts for p in part))]
        race = read_race(self._store, jobs, self._race, self._home, len(self._parts))
        return set(race.contenders) if race is not None else set()


def _base_evals(plan: Plan) -> tuple[PlannedEval, ...]:
    base = plan.candidates[0].name
    return tuple(planned for planned in plan.evals if planned.candidate == base)
