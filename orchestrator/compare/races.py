"""Read a race of layer paths from the store: who left after how many questions, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from evals.layer_visits import VisitPath as Layers
from evals.probes import get_probe
from evals.probes.race import Race, RacePlan, run_race
from evals.scores import Sample
from evals.stats.sequence import PartAnswers
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.records import ENDED, EarlyOutcome, EvalOutcome, RunRecord


def race_plan_of(run: RunRecord) -> RacePlan | None:
    """The rule of a run that is a race; None for any other run."""
    try:
        recorded = json.loads(run.plan).get("race")
        return None if recorded is None else RacePlan.model_validate(recorded)
    except (ValueError, ValidationError, AttributeError):
        return None


def race_of_run(store: Store, run: RunRecord, home: Path) -> Race | None:
    """A run's race as far as whole rounds of it are done; None if it is no race, or its first round is not done.

    Raises SamplesError if the base's samples are missing or altered.
    """
    plan = race_plan_of(run)
    if plan is None:
        return None
    jobs = [item.job for item in store.run_jobs(run.id) if isinstance(item.job, EvalJob)]
    rounds = _rounds(jobs, plan)
    begun = len(rounds)
    is_last = any(job.decide is None and job.layer_path is not None for job in jobs)
    done = begun if is_last or run.state in ENDED else max(0, begun - 1)
    return read_race(store, jobs, plan, home, done) if done else None


def read_race(
    store: Store, jobs: Iterable[EvalJob], plan: RacePlan, home: Path, n_rounds: int
) -> Race | None:
    """The first rounds of a race from its jobs, the base's among them; None if the base has no answers."""
    rounds = _rounds(jobs, plan)[:n_rounds]
    bases = {job.benchmark: job.decide.against for job in rounds[0] if job.decide is not None}
    samples = _base_samples(store, bases, home)
    if samples is None:
        return None
    probes = [get_probe(name) for name in bases]
    return run_race(plan, probes, samples, [_answers(store, of_round) for of_round in rounds])


def _rounds(jobs: Iterable[EvalJob], plan: RacePlan) -> list[list[EvalJob]]:
    """The jobs of each round that has begun."""
    rounds: list[list[EvalJob]] = [[] for _ in plan.shares]
    numbers: dict[tuple[str, tuple[int, ...]], int] = {}
    for job in jobs:
        if job.decide is None or job.decide.items is None:
            continue
        if not any(name == job.benchmark for name, _ in numbers):
            probe = get_probe(job.benchmark)
            numbers |= {(job.benchmark, plan.items(probe, n)): n for n in range(len(plan.shares))}
        number = numbers.get((job.benchmark, job.decide.items))
        if number is not None:
            rounds[number].append(job)
    return [of_round for of_round in rounds if of_round]


def _answers(store: Store, jobs: Sequence[EvalJob]) -> dict[Layers, dict[str, PartAnswers]]:
    outcomes = store.outcomes(job.digest for job in jobs)
    answers: dict[Layers, dict[str, PartAnswers]] = {}
    for job in jobs:
        assert job.layer_path is not None
        by_probe = answers.setdefault(job.layer_path, {})
        outcome = outcomes.get(job.digest)
        if isinstance(outcome, EarlyOutcome) and outcome.early.sequence.part is not None:
            by_probe[job.benchmark] = outcome.early.sequence.part
    return answers


def _base_samples(
    store: Store, bases: Mapping[str, str], home: Path
) -> Mapping[str, Sequence[Sample]] | None:
    outcomes = store.outcomes(bases.values())
    samples: dict[str, Sequence[Sample]] = {}
    for name, digest in bases.items():
        outcome = outcomes.get(digest)
        if not isinstance(outcome, EvalOutcome):
            return None
        samples[name] = stored_samples(digest, outcome, home).read()
    return samples
