"""Read a race of a sweep's candidates from the store: who left after how many documents, and why."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from statistics import fmean

from pydantic import ValidationError

from evals.race_rule import RaceRule
from evals.stats.candidate_race import CandidateRace, EvalKey, run_race
from evals.stats.sequence import PartAnswers
from orchestrator.plan.job import EvalJob
from orchestrator.plan.racing import eval_key
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, PlannedJob, RunRecord, RunState

_COMPLETE = (RunState.DONE, RunState.FAILED)
"""States of runs whose jobs have all ended."""


def race_rule_of(run: RunRecord) -> RaceRule | None:
    """The rule of a run whose candidates race; None for any other run."""
    try:
        recorded = json.loads(run.plan).get("candidate_race")
        return None if recorded is None else RaceRule.model_validate(recorded)
    except (ValueError, ValidationError, AttributeError):
        return None


def n_left_out(store: Store, run_id: str, scored: Collection[int]) -> int:
    """Candidates of a race without scores, by the positions of those that have some: they were tried too. 0 for any other run."""
    if race_rule_of(store.run(run_id)) is None:
        return 0
    return sum(not c.is_base and c.position not in scored for c in store.candidates(run_id))


def candidate_race_of(store: Store, run: RunRecord) -> CandidateRace | None:
    """A run's race as far as whole rounds of it are done; None if it is no race, or its first round is not done."""
    rule = race_rule_of(run)
    if rule is None:
        return None
    names = {c.position: c.name for c in store.candidates(run.id)}
    return read_race(store, rule, names, store.run_jobs(run.id), ended=run.state in _COMPLETE)


def whole_differences(store: Store, run_id: str) -> dict[str, float]:
    """By name of the candidates with all evaluations: the average of the benchmarks minus the base's, in points, whichever run it is."""
    names = {c.position: (c.name, c.is_base) for c in store.candidates(run_id)}
    jobs = [i for i in store.run_jobs(run_id) if isinstance(i.job, EvalJob) and i.job.decide is None]
    scores = store.evaluations(item.job.digest for item in jobs)
    averages: dict[str, dict[EvalKey, float]] = {}
    for item in jobs:
        for position in item.candidates:
            if item.job.digest in scores:
                values = averages.setdefault(names[position][0], {})
                values[_key(item)] = scores[item.job.digest].result.normalized
    base = next((averages.get(name, {}) for name, is_base in names.values() if is_base), {})
    return {
        name: fmean(values[key] - base[key] for key in base)
        for name, values in averages.items()
        if base and values.keys() == base.keys()
    }


def read_race(
    store: Store, rule: RaceRule, names: dict[int, str], planned: Sequence[PlannedJob], *, ended: bool
) -> CandidateRace | None:
    """The race as far as it is known; `names` are those of the candidates by position, `ended` says whether no job runs any more."""
    rounds = _rounds(rule, planned)
    if not rounds:
        return None
    racing = {position for item in rounds[0] for position in item.candidates}
    is_last = any(
        isinstance(item.job, EvalJob) and item.job.decide is None and racing.intersection(item.candidates)
        for item in planned
    )
    done = rounds if is_last or ended else rounds[:-1]
    if not done:
        return None
    keys = list(dict.fromkeys(_key(item) for item in done[0]))
    return run_race(rule, keys, [_answers(store, of_round, names) for of_round in done])


def _rounds(rule: RaceRule, planned: Sequence[PlannedJob]) -> list[list[PlannedJob]]:
    """The jobs of each round of parts that has begun."""
    rounds: list[list[PlannedJob]] = [[] for _ in rule.shares]
    for item in planned:
        if (
            isinstance(item.job, EvalJob)
            and item.job.decide is not None
            and item.job.decide.part in rule.shares
        ):
            rounds[rule.shares.index(item.job.decide.part)].append(item)
    return [of_round for of_round in rounds if of_round]


def _key(item: PlannedJob) -> EvalKey:
    assert isinstance(item.job, EvalJob)
    return eval_key(item.job)


def _answers(
    store: Store, planned: Sequence[PlannedJob], names: dict[int, str]
) -> dict[str, dict[EvalKey, PartAnswers]]:
    """The answers of each candidate of a round."""
    outcomes = store.outcomes(item.job.digest for item in planned)
    answers: dict[str, dict[EvalKey, PartAnswers]] = {}
    for position in sorted({p for item in planned for p in item.candidates}):
        answers[names[position]] = {}
    for item in planned:
        outcome = outcomes.get(item.job.digest)
        if isinstance(outcome, EarlyOutcome) and outcome.early.sequence.part is not None:
            for position in item.candidates:
                answers[names[position]][_key(item)] = outcome.early.sequence.part
    return answers
