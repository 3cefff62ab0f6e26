"""Races layer paths over the questions of a scan's search set, as additions to a run that grows.

base        the checkpoint itself on all questions
parts       every path on a part of each probe's questions; who cannot be among the best any more leaves
the rest    whoever is left on all questions: ordinary evaluations, which find their earlier answers in the journal
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.engine import digest_of
from evals.layer_visits import VisitPath as Layers
from evals.probes.race import RacePlan
from orchestrator.compare.races import read_race
from orchestrator.plan.plan import Plan, PlannedEval
from orchestrator.plan.race import part_evals
from orchestrator.run.race_rounds import RaceRounds
from orchestrator.run.run import run_id_of
from orchestrator.store import Store


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


class PathRace(RaceRounds):
    """The rounds of a race of layer paths."""

    def __init__(self, plan: Plan, race: RacePlan, store: Store, home: Path) -> None:
        """`plan` is that of the scan of all questions."""
        self._race = race
        self._home = home
        self._parts: list[tuple[PlannedEval, ...]] = []
        super().__init__(plan, store, _base_evals(plan), len(race.shares) + 1)

    def next_round(self) -> tuple[tuple[PlannedEval, ...], bool]:
        """The next part of the paths that have not left, or all questions."""
        survivors = self._survivors()
        look = len(self._parts)
        if look == len(self._race.shares) or not survivors:
            return tuple(p for p in self._plan.evals if p.job.layer_path in survivors), True
        parts = tuple(p for p in part_evals(self._plan, self._race, look) if p.job.layer_path in survivors)
        self._parts.append(parts)
        return parts, False

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
