"""Evaluates the merges of a search as one run that grows: each trial is a candidate with its build and evaluations.

A trial is stored with its jobs before they start, and ends when they have; so that a search that is killed at any moment
goes on with what the store holds, and no evaluation is lost or done twice.
"""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.probes import Split
from evals.scores import PROBE_SUITE
from evals.suite_file import resolve_suite
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import MergeboardError, RunError
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import SuiteEntry, SweepFile
from orchestrator.run.job_state import NodeState
from orchestrator.run.plan_records import candidate_records, planned_jobs
from orchestrator.search.merges.course import Course, best_first
from orchestrator.search.merges.fidelity import FidelityStep, likelihood
from orchestrator.search.merges.search_file import Objective, SearchFile
from orchestrator.search.merges.stopping import asked_whole, decided_against, early_of, lost
from orchestrator.search.request import short_name
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome, RunLease, Success
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from recipes.artifact import ArtifactStore
from recipes.errors import RecipeError
from recipes.layer_path_text import format_list
from recipes.recipe import Recipe

AVERAGE = "plain average"
_ENDED = (NodeState.DONE, NodeState.FAILED, NodeState.BLOCKED)


@dataclass
class _Work:
    """A trial in work: the plans of its steps so far, and the values of those that have ended."""

    plans: list[Plan]
    values: list[tuple[float, ...]]


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
        home: Path,
    ) -> None:
        self._file = file
        self._course = course
        self._store = store
        self._plan = plan
        self._artifacts = artifacts
        self._home = home
        self._work: dict[int, _Work] = {}
        self._whole: dict[int, str] = {}
        # Artifacts that this process had built: those of merges that will not be confirmed are deleted again.
        self._built: set[str] = set()
        self._added: list[Plan] = []

    @property
    def ended(self) -> bool:
        """Whether every trial has its values and no further one is proposed."""
        return self._course.ended

    @property
    def later(self) -> Mapping[str, int]:
        """Evaluations of trials that are not proposed yet, by engine key, if they run where the latest trial does."""
        work = next(reversed(self._work.values()), None)
        if work is None:
            return {}
        count = self._course.left
        return {key: count * n for key, n in Counter(p.job.engine_key for p in work.plans[-1].evals).items()}

    def more(self, lease: RunLease, state_of: Callable[[str], NodeState]) -> Sequence[Plan]:
        """Take trials whose jobs have ended, then plan and store as many new ones as may run."""
        # Kept until all are stored: the store may be lost in between, and the scheduler asks again.
        for trial in self._course.running:
            work = self._work.get(trial.number)
            if work is None or any(plan is work.plans[-1] for plan in self._added):
                continue
            if all(state_of(digest) in _ENDED for digest in work.plans[-1].jobs):
                self._add(self._step_ended(lease, trial, work))
        for trial in self._course.running:
            self._add(self._resumed(lease, trial))
        while (proposed := self._next()) is not None:
            self._add(self._begin(lease, proposed))
        added, self._added = self._added, []
        return added

    def take_builds(self, builds: Collection[str]) -> None:
        """Take builds of trials whose layer path an engine refused, to delete them as the others."""
        self._built |= set(builds)

    def _add(self, plan: Plan | None) -> None:
        if plan is not None:
            self._added.append(plan)

    def _next(self) -> TrialRecord | None:
        hopeless = self._course.hopeless
        if hopeless is not None:
            raise RunError(
                f"The first merges of the search all failed, so that it stops: {hopeless.message or 'without a reason'}"
            )
        return self._course.propose()

    def _resumed(self, lease: RunLease, trial: TrialRecord) -> Plan | None:
        """Plan of a trial that an earlier process stored and did not end; None if this process has it already."""
        return None if trial.number in self._work else self._begin(lease, trial)

    def _begin(self, lease: RunLease, trial: TrialRecord) -> Plan | None:
        """Plan and store a trial; one that cannot be planned ends at once."""
        try:
            plan = self._plan_step(lease.run_id, trial, self._file.steps[0])
        except (MergeboardError, RecipeError) as error:
            failed = trial.model_copy(
                update={"state": TrialState.FAILED, "message": str(error), "cost_s": 0.0}
            )
            self._store.add_trial(lease, trial)
            self._end(lease, failed)
            return None
        planned = trial.model_copy(update={"recipe_digest": _digest_of(plan.candidates[-1])})
        # The base is the run's already, and none of the trial's jobs serve it.
        if not self._store.add_trial(lease, planned, candidate_records(plan)[-1], planned_jobs(plan)):
            return None
        self._course.end(planned)
        self._work[trial.number] = _Work([plan], [])
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

    def _step_ended(self, lease: RunLease, trial: TrialRecord, work: _Work) -> Plan | None:
        """Take the values of a step; the plan of the next step if the trial goes on, otherwise it ends."""
        file, plan = self._file, work.plans[-1]
        step = file.steps[len(work.values)]
        outcomes = self._store.outcomes(plan.jobs)
        jobs = jobs_of(plan, trial.candidate)
        early = early_of(jobs, outcomes)
        loss = lost(early) if early is not None else None
        if early is not None and loss is None:
            return self._extend(lease, trial, work, asked_whole(plan))
        values: tuple[float, ...] | None
        reached = tuple(work.values)
        if loss is not None:
            values = (loss[0],)
        elif step is FidelityStep.ANCHORS:
            values = anchor_values(file, jobs, outcomes, self._home)
        else:
            values = objective_values(file, jobs, outcomes, Split.SEARCH, step)
        if values is None:
            message = next((m for d in plan.jobs if d not in outcomes and (m := self._reason(d))), None)
            ending: dict[str, Any] = {
                "state": TrialState.FAILED,
                "message": message or "It has no value of an objective.",
            }
        elif loss is not None:
            reached = (*work.values, values)
            ending = {
                "state": TrialState.STOPPED,
                "message": f"It was compared with the best merge before it: {loss[1]}.",
            }
            for job in jobs:  # nobody asks the rest
                shutil.rmtree(self._home / "journals" / job.whole.digest, ignore_errors=True)
        elif step is FidelityStep.WHOLE:
            ending = {"state": TrialState.COMPLETE, "objectives": values}
        else:
            reached = (*work.values, values)
            if self._course.goes_on(trial.number, reached):
                return self._next_step(lease, trial, work, reached)
            ending = {
                "state": TrialState.STOPPED,
                "message": f"It was not among the best at the step {step}.",
            }
        cost_s = self._cost_s(trial, work)
        self._end(lease, trial.model_copy(update={**ending, "cost_s": cost_s, "steps": reached}))
        del self._work[trial.number]
        return None

    def _next_step(
        self, lease: RunLease, trial: TrialRecord, work: _Work, reached: Sequence[tuple[float, ...]]
    ) -> Plan | None:
        step = self._file.steps[len(reached)]
        plan = self._extend(lease, trial, work, self._plan_step(lease.run_id, trial, step))
        if plan is not None:
            work.values[:] = reached
        return plan

    def _extend(self, lease: RunLease, trial: TrialRecord, work: _Work, plan: Plan) -> Plan | None:
        if not self._store.extend_trial(lease, trial, planned_jobs(plan)):
            return None
        work.plans.append(plan)
        return plan

    def _plan_step(self, run_id: str, trial: TrialRecord, step: FidelityStep) -> Plan:
        """The plan of a trial's step; the whole objective may stop early against the best merge before it."""
        plan, stop = self._plan(trial_sweep(self._file, trial, step)), self._file.search.stop
        if stop is None or step is not FidelityStep.WHOLE:
            return plan
        # A merge that is proposed again has the results of the first time.
        first = next(
            t for t in self._course.trials if t.parameters == trial.parameters and t.arm is trial.arm
        )
        best = self._course.best_before(first.number)
        return plan if best is None else decided_against(plan, self._whole_evaluation(run_id, best), stop)

    def _whole_evaluation(self, run_id: str, trial: TrialRecord) -> str:
        """Digest of the evaluation in which a complete trial was asked everything."""
        if trial.number not in self._whole:
            names = {candidate.position: candidate.name for candidate in self._store.candidates(run_id)}
            jobs = [
                item.job
                for item in self._store.run_jobs(run_id)
                if isinstance(item.job, EvalJob) and trial.candidate in map(names.get, item.candidates)
            ]
            (job,) = objective_jobs(self._file, self._file.search.objectives[0], jobs, Split.SEARCH)
            self._whole[trial.number] = job.digest
        return self._whole[trial.number]

    def _cost_s(self, trial: TrialRecord, work: _Work) -> float:
        """Seconds of all steps; 0 for a merge that was proposed before, whose results were there."""
        if trial.recipe_digest in {t.recipe_digest for t in self._course.trials[: trial.number]}:
            return 0.0
        outcomes = self._store.outcomes({digest for plan in work.plans for digest in plan.jobs})
        return sum((o.ended_at - o.started_at).total_seconds() for o in outcomes.values())

    def _reason(self, digest: str) -> str | None:
        attempts = self._store.attempts(digest)
        return attempts[-1].message if attempts else None


def trial_sweep(file: SearchFile, trial: TrialRecord, step: FidelityStep = FidelityStep.WHOLE) -> SweepFile:
    """The sweep of one step of a trial, without the base."""
    entry = file.entry(trial.candidate, trial.parameters)
    return file.sweep([entry], Split.SEARCH, step=step, score_base=False)


def _digest_of(candidate: Candidate) -> str:
    """Digest of a merge with its layer path, if it has one."""
    if candidate.layer_path is None or candidate.build is not None:
        return f"recipe:{candidate.build.digest}" if candidate.build else candidate.weights_digest
    return f"{candidate.weights_digest} {format_list(candidate.layer_path)}"


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
    return file.recipe(file.corner)


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
