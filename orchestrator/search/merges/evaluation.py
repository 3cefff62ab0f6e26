"""Evaluates the merges of a search as one run that grows: each trial is a candidate with its build and evaluations.

A trial is stored with its jobs before they start, and ends when they have; so that a search that is killed at any moment
goes on with what the store holds, and no evaluation is lost or done twice.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.probes import Split
from evals.scores import PROBE_SUITE
from evals.suite_file import resolve_suite
from orchestrator.errors import MergeboardError, RunError
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import SuiteEntry, SweepFile
from orchestrator.run.job_state import NodeState
from orchestrator.run.run import candidate_records, planned_jobs
from orchestrator.search.merges.course import Course, best_first
from orchestrator.search.merges.search_file import Objective, SearchFile
from orchestrator.search.merges.space import Values
from orchestrator.search.request import short_name
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome, RunLease, Success
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from recipes.artifact import ArtifactStore
from recipes.errors import RecipeError
from recipes.recipe import Recipe

AVERAGE = "plain average"
_ENDED = (NodeState.DONE, NodeState.FAILED, NodeState.BLOCKED)


class MergeTrials:
    """Additions to a search's run: proposes trials, stores them, and takes what they gave."""

    def __init__(
        self,
        file: SearchFile,
        course: Course,
        store: Store,
        *,
        plan: Callable[[SweepFile], Plan],
        artifacts: ArtifactStore,
    ) -> None:
        self._file = file
        self._course = course
        self._store = store
        self._plan = plan
        self._artifacts = artifacts
        self._plans: dict[int, Plan] = {}
        # Artifacts that this process had built: those of merges that will not be confirmed are deleted again.
        self._built: set[str] = set()

    @property
    def ended(self) -> bool:
        """Whether every trial has its values and no further one is proposed."""
        return self._course.ended

    @property
    def later(self) -> Mapping[str, int]:
        """Evaluations of trials that are not proposed yet, by engine key, if they run where the latest trial does."""
        plan = next(reversed(self._plans.values()), None)
        if plan is None:
            return {}
        count = self._course.left
        return {key: count * n for key, n in Counter(p.job.engine_key for p in plan.evals).items()}

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """Take trials whose jobs have ended, then plan and store as many new ones as may run."""
        for trial in self._course.running:
            plan = self._plans.get(trial.number)
            if plan is not None and all(state_of(digest) in _ENDED for digest in plan.jobs):
                self._end(lease, self._ended(trial, plan))
                del self._plans[trial.number]
        added = [plan for trial in self._course.running if (plan := self._resumed(lease, trial)) is not None]
        while (proposed := self._next()) is not None:
            plan = self._begin(lease, proposed)
            if plan is not None:
                added.append(plan)
        return added

    def _next(self) -> TrialRecord | None:
        hopeless = self._course.hopeless
        if hopeless is not None:
            raise RunError(
                f"The first merges of the search all failed, so that it stops: {hopeless.message or 'without a reason'}"
            )
        return self._course.propose()

    def _resumed(self, lease: RunLease, trial: TrialRecord) -> Plan | None:
        """Plan of a trial that an earlier process stored and did not end; None if this process has it already."""
        return None if trial.number in self._plans else self._begin(lease, trial)

    def _begin(self, lease: RunLease, trial: TrialRecord) -> Plan | None:
        """Plan and store a trial; one that cannot be planned ends at once."""
        try:
            plan = self._plan(trial_sweep(self._file, trial))
        except (MergeboardError, RecipeError) as error:
            failed = trial.model_copy(
                update={"state": TrialState.FAILED, "message": str(error), "cost_s": 0.0}
            )
            self._store.add_trial(lease, trial)
            self._end(lease, failed)
            return None
        digest = plan.candidates[-1].weights_digest
        planned = trial.model_copy(update={"recipe_digest": digest})
        # The base is the run's already, and none of the trial's jobs serve it.
        if not self._store.add_trial(lease, planned, candidate_records(plan)[-1], planned_jobs(plan)):
            return None
        self._course.end(planned)
        self._plans[trial.number] = plan
        self._built |= {job.digest for job in plan.builds if self._artifacts.read(job.digest) is None}
        return plan

    def _end(self, lease: RunLease, trial: TrialRecord) -> None:
        if self._store.end_trial(lease, trial):
            self._course.end(trial)
            self._evict()

    def _evict(self) -> None:
        """Delete built merges that are neither in work nor among the best of a method: hundreds would fill a disk."""
        used = {trial.recipe_digest for trial in self._course.running}
        for arm in Arm:
            ranked = best_first(self._file.search, [t for t in self._course.trials if t.arm is arm])
            used |= {trial.recipe_digest for trial in ranked[: self._file.search.confirm.keep]}
        for digest in [d for d in self._built if f"recipe:{d}" not in used]:
            if self._artifacts.evict(digest):
                self._built.discard(digest)

    def _ended(self, trial: TrialRecord, plan: Plan) -> TrialRecord:
        outcomes = self._store.outcomes(plan.jobs)
        seen = {t.recipe_digest for t in self._course.trials[: trial.number]}
        cost_s = 0.0
        if trial.recipe_digest not in seen:
            cost_s = sum((o.ended_at - o.started_at).total_seconds() for o in outcomes.values())
        values = objective_values(self._file, jobs_of(plan, trial.candidate), outcomes, Split.SEARCH)
        if values is None:
            message = next((m for d in plan.jobs if d not in outcomes and (m := self._reason(d))), None)
            ending: dict[str, Any] = {
                "state": TrialState.FAILED,
                "message": message or "It has no value of an objective.",
            }
        else:
            ending = {"state": TrialState.COMPLETE, "objectives": values}
        return trial.model_copy(update={**ending, "cost_s": cost_s})

    def _reason(self, digest: str) -> str | None:
        attempts = self._store.attempts(digest)
        return attempts[-1].message if attempts else None


def trial_sweep(file: SearchFile, trial: TrialRecord) -> SweepFile:
    """The sweep of one trial, without the base."""
    document = file.space.fill(file.search.recipe, trial.parameters)
    return file.sweep([{"name": trial.candidate, "mergekit": document}], Split.SEARCH, score_base=False)


def reference_entries(file: SearchFile) -> list[dict[str, Any]]:
    """Recipe entries of what merges are compared with besides the base: their parents, and the plain average of these."""
    parents = parent_names(file)
    names = unique_names(parents)
    entries: list[dict[str, Any]] = [
        {"name": names[parent], "checkpoint": file.search.sources.get(parent, parent)} for parent in parents
    ]
    average = average_recipe(file)
    if average is not None:
        entries.append({"name": AVERAGE, "mergekit": average})
    return entries


def parent_names(file: SearchFile) -> list[str]:
    """Checkpoints that the merges are made of, as the recipe names them, without the base and without adapters."""
    recipe = _any_recipe(file)
    adapters = set(recipe.adapters)
    sources = [str(source) for source in recipe.sources if source not in adapters]
    return [name for name in sources if _place(file, name) != _place(file, file.search.base)]


def average_recipe(file: SearchFile) -> dict[str, Any] | None:
    """The mean of all parents as a mergekit document (uniform soup); None with fewer than two checkpoints.

    A base that the recipe merges with a single other checkpoint counts as a parent.
    """
    names = parent_names(file)
    if len(names) < 2:
        names = [str(source) for source in _any_recipe(file).sources]
    if len(names) < 2:
        return None
    document: dict[str, Any] = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": {"weight": 1.0}} for name in names],
    }
    stage = file.search.recipe if isinstance(file.search.recipe, dict) else file.search.recipe[0]
    kept = ("dtype", "out_dtype", "tokenizer", "tokenizer_source", "chat_template")
    return document | {key: stage[key] for key in kept if isinstance(stage.get(key), str | dict)}


def _any_recipe(file: SearchFile) -> Recipe:
    """The recipe with some values, to read its sources."""
    values: Values = {p.name: p.choices[0] if p.choices else p.bounds[1] for p in file.space.parameters}
    return file.recipe(file.space.rounded(values))


def _place(file: SearchFile, name: str) -> str:
    """A checkpoint's name for comparison: a directory by its path."""
    target = file.search.sources.get(name, name)
    path = (Path(file.folder) / target).expanduser()
    return str(path.resolve()) if path.is_dir() else target


def unique_names(names: Sequence[str]) -> dict[str, str]:
    """Short names of checkpoints; whole ones where the short ones are not distinct, or are taken."""
    short = {name: short_name(name) for name in names}
    taken = ("base", AVERAGE)
    return {
        name: name if list(short.values()).count(s) > 1 or s in taken or s.startswith("trial ") else s
        for name, s in short.items()
    }


def objective_values(
    file: SearchFile, jobs: Sequence[EvalJob], outcomes: Mapping[str, Success], split: Split
) -> tuple[float, ...] | None:
    """The value of each objective from one candidate's evaluations, 0 to 1; None if one is missing."""
    values = []
    for objective in file.search.objectives:
        asked = objective_jobs(file, objective, jobs, split)
        results = [outcomes.get(job.digest) for job in asked]
        scores = [r.evaluation.result.normalized / 100 for r in results if isinstance(r, EvalOutcome)]
        if not asked or len(scores) < len(asked):
            return None
        values.append(sum(scores) / len(scores))
    return tuple(values)


def objective_jobs(
    file: SearchFile, objective: Objective, jobs: Sequence[EvalJob], split: Split
) -> list[EvalJob]:
    """The evaluations of one objective among those of a candidate."""
    if objective.probe is not None:
        name = f"{objective.probe}-{split}"
        return [job for job in jobs if job.suite == PROBE_SUITE and job.benchmark == name]
    suite = _suite_name(objective.suite or "", file.folder)
    limit = objective.limit_of(split)
    return [
        job
        for job in jobs
        if job.suite == suite
        and job.settings.limit == limit
        and (objective.benchmarks is None or job.benchmark in objective.benchmarks)
    ]


def jobs_of(plan: Plan, candidate: str) -> list[EvalJob]:
    """A candidate's evaluations in a plan."""
    return [planned.job for planned in plan.evals if planned.candidate == candidate]


@functools.lru_cache(maxsize=64)
def _suite_name(suite: str, folder: str) -> str:
    """Name of a suite that the file names by its name or file."""
    return resolve_suite(SuiteEntry(suite=suite).request, Path(folder)).name
