"""Races a sweep's candidates over the documents of its benchmarks, in a run that grows.

the base    all documents, with the candidates that do not race
parts       every candidate on a part of each benchmark's documents; who cannot be among the best any more leaves
the rest    whoever is left on all documents: ordinary evaluations, which find their earlier answers in the journal
"""

from __future__ import annotations

from evals.race_rule import RaceRule
from orchestrator.compare.candidate_races import read_race
from orchestrator.plan.candidate_race import first_round, part_evals, whole_evals
from orchestrator.plan.plan import Plan, PlannedEval
from orchestrator.run.plan_records import planned_jobs
from orchestrator.run.race_rounds import RaceRounds
from orchestrator.store import Store


class CandidateRounds(RaceRounds):
    """The rounds of a race of candidates."""

    def __init__(self, plan: Plan, rule: RaceRule, store: Store) -> None:
        """`plan` is that of the whole sweep."""
        self._rule = rule
        first = first_round(plan, rule)
        self._begun = planned_jobs(first)
        self._look = 1
        super().__init__(plan, store, first.evals, len(rule.shares) + 1)

    def next_round(self) -> tuple[tuple[PlannedEval, ...], bool]:
        """The next part of the candidates that have not left, or all documents."""
        names = {position: candidate.name for position, candidate in enumerate(self._plan.candidates)}
        race = read_race(self._store, self._rule, names, self._begun, ended=True)
        survivors = race.contenders if race is not None else ()
        if race is None or race.over:
            return whole_evals(self._plan, survivors), True
        parts = part_evals(self._plan, self._rule, self._look, survivors)
        self._begun += planned_jobs(self._plan.model_copy(update={"evals": parts}))
        self._look += 1
        return parts, False
