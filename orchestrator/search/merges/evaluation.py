"""Evaluates the merges of a search as one run that grows: each trial is a candidate with its build and evaluations.

A trial is stored with its jobs before they start, and ends when they have; so that a search that is killed at any moment
goes on with what the store holds, and no evaluation is lost or done twice.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.probes import Split
from orchestrator.errors import MergeboardError, RunError
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import SweepFile
from orchestrator.run.job_state import NodeState
from orchestrator.run.plan_records import candidate_records, planned_jobs
from orchestrator.search.merges.course import Course, best_first
from orchestrator.search.merges.fidelity import FidelityStep
from orchestrator.search.merges.objective_values import (
    anchor_values,
    jobs_of,
    objective_jobs,
    objective_values,
)
from orchestrator.search.merges.search_file import SearchFile
from orchestrator.search.merges.stopping import asked_whole, decided_against, early_of, lost
from orchestrator.store import Store
from orchestrator.store.records import RunLease
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from recipes.artifact import ArtifactStore
from recipes.errors import RecipeError
from recipes.layer_path_text import format_list

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
