"""The values of a search's objectives from the evaluations of one candidate."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.probes import Split
from evals.scores import PROBE_SUITE
from evals.suite_file import resolve_suite
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import SuiteEntry
from orchestrator.search.merges.fidelity import FidelityStep, likelihood
from orchestrator.search.merges.search_file import Objective, SearchFile
from orchestrator.store.records import EvalOutcome, Success


def objective_values(
    file: SearchFile,
    jobs: Sequence[EvalJob],
    outcomes: Mapping[str, Success],
    split: Split,
    step: FidelityStep = FidelityStep.WHOLE,
) -> tuple[float, ...] | None:
    """The value of each objective from one candidate's evaluations, 0 to 1; None if one is missing."""
    values = []
    for objective in file.search.objectives:
        asked = objective_jobs(file, objective, jobs, split, step)
        results = [outcomes.get(job.digest) for job in asked]
        scores = [r.evaluation.result.normalized / 100 for r in results if isinstance(r, EvalOutcome)]
        if not asked or len(scores) < len(asked):
            return None
        values.append(sum(scores) / len(scores))
    return tuple(values)


def anchor_values(
    file: SearchFile, jobs: Sequence[EvalJob], outcomes: Mapping[str, Success], home: Path
) -> tuple[float, ...] | None:
    """Mean likelihood of the right answers of each objective's anchor questions; None if one is missing."""
    values = []
    for objective in file.search.objectives:
        asked = objective_jobs(file, objective, jobs, Split.SEARCH, FidelityStep.ANCHORS)
        pairs = [(job, o) for job in asked if isinstance(o := outcomes.get(job.digest), EvalOutcome)]
        if not asked or len(pairs) < len(asked):
            return None
        if objective.probe is not None:
            # The credit of a scored probe is the probability of the right answer.
            values.append(pairs[0][1].evaluation.result.normalized / 100)
        else:
            each = [likelihood(stored_samples(job.digest, o, home).read()) for job, o in pairs]
            values.append(sum(each) / len(each))
    return tuple(values)


def objective_jobs(
    file: SearchFile,
    objective: Objective,
    jobs: Sequence[EvalJob],
    split: Split,
    step: FidelityStep = FidelityStep.WHOLE,
) -> list[EvalJob]:
    """The evaluations of one objective among those of a candidate."""
    if objective.probe is not None:
        name = file.probe_name(objective, split, step)
        return [job for job in jobs if job.suite == PROBE_SUITE and job.benchmark == name]
    suite = _suite_name(objective.suite or "", file.folder)
    limit = file.limit_of(objective, split, step)
    asked = [
        job
        for job in jobs
        if job.suite == suite
        and job.settings.limit == limit
        and (objective.benchmarks is None or job.benchmark in objective.benchmarks)
    ]
    # After an evaluation that stopped early the whole one may follow.
    return list({job.benchmark: job for job in asked}.values())


def jobs_of(plan: Plan, candidate: str) -> list[EvalJob]:
    """A candidate's evaluations in a plan."""
    return [planned.job for planned in plan.evals if planned.candidate == candidate]


@functools.lru_cache(maxsize=64)
def _suite_name(suite: str, folder: str) -> str:
    """Name of a suite that the file names by its name or file."""
    return resolve_suite(SuiteEntry(suite=suite).request, Path(folder)).name
