"""Runs a search over merge parameters: the references, the trials, the confirmation, and what it ended with.

    references     base, parents and their plain average on the objectives
    trials         merges, proposed one by one, in the same run (`evaluation.py`)
    confirmation   the best of them, the best of each rival method and the references on other questions
    suite          the better half on the benchmarks of `confirm.suite`

Every step is a run whose results are stored, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from evals.engine import digest_of
from evals.probes import Split
from evals.stats import Delta
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.errors import RunError
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.plan import Plan, with_path_slots
from orchestrator.plan.sweep import SuiteEntry
from orchestrator.run.run import GrowingRun, further_plan
from orchestrator.run.scheduler import RunSummary
from orchestrator.search.grid_scan import Ground, Reporting
from orchestrator.search.merges.answers import RunAnswers
from orchestrator.search.merges.confirmation import MergeEvidence, confirm_merges, mean_values
from orchestrator.search.merges.course import Course, best_first
from orchestrator.search.merges.evaluation import MergeTrials
from orchestrator.search.merges.importance import importance_of
from orchestrator.search.merges.labels import parameter_labels
from orchestrator.search.merges.objective_values import jobs_of, objective_values
from orchestrator.search.merges.references import AVERAGE, reference_entries
from orchestrator.search.merges.search_file import SearchFile
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.merge_report import (
    ConfirmedMerge,
    MergeConfirmation,
    MergeReport,
    ReferenceResult,
    SearchedObjective,
    SearchedParameter,
    SearchView,
)
from orchestrator.store.trial_records import Arm, TrialRecord
from recipes.artifact import ArtifactStore


def run_merge_search(
    file: SearchFile, settings: Settings, reporting: Reporting, ground: Ground
) -> SearchView:
    """Run what is not in the store yet; returns the search with its trials."""
    return _MergeSearchRun(file, settings, reporting, ground).run()


class _MergeSearchRun:
    """One search on its way."""

    def __init__(self, file: SearchFile, settings: Settings, reporting: Reporting, ground: Ground) -> None:
        self._file = file
        self._search = file.search
        self._settings = settings
        self._reporting = reporting
        self._ground = ground
        self._slots = 0

    def run(self) -> SearchView:
        plan = self._ground.plan(self._file.sweep(reference_entries(self._file), Split.SEARCH))
        self._file.require_layers(plan.candidates[0].layers)
        self._slots = self._path_slots()
        plan = self._with_slots(plan)
        self._run_id = run_id_of_search(self._file, plan)
        summary = self._evaluate(plan)
        with Store.open(self._settings.database_url, create=False) as store:
            report = self._measured(store, plan, summary)
            view = SearchView(report=report, trials=store.trials(self._run_id))
            store.keep_search_report(self._run_id, report.model_dump_json())
        view = self._confirmed(view)
        with Store.open(self._settings.database_url, create=False) as store:
            store.keep_search_report(self._run_id, view.report.model_dump_json())
        return view

    def _evaluate(self, plan: Plan) -> RunSummary:
        """Run references and trials."""
        parallel = self._search.parallel or slots_of(self._ground.cluster, plan.tensor_parallel)
        gpus = plan.tensor_parallel if self._ground.cluster.has_gpus else 0
        if self._search.budget.gpu_hours is not None and not gpus:
            raise RunError(
                f"{self._file.origin}: budget: gpu_hours counts GPUs, and there is none here; give `seconds` or `evaluations`."
            )

        def begin(store: Store) -> MergeTrials:
            definition = begun_report(self._file, self._run_id, parallel)
            record = store.begin_search(self._run_id, self._file.text, self._file.folder, parallel)
            if record.report is None:
                store.keep_search_report(self._run_id, definition.model_dump_json())
            trials = store.trials(self._run_id)
            course = Course(
                self._search, self._file.space, parallel=record.parallel, gpus=gpus, trials=trials
            )
            return MergeTrials(
                self._file,
                course,
                store,
                plan=lambda sweep: self._with_slots(
                    further_plan(sweep, plan, self._settings, self._ground.cluster)
                ),
                artifacts=ArtifactStore(self._settings.artifacts),
                home=self._settings.home,
            )

        what = f"searching merges with {self._search.sampler}, {budget_text(self._file)}"
        with self._reporting(what) as reporter:
            return self._ground.grow(plan, reporter, GrowingRun(self._run_id, begin))

    def _path_slots(self) -> int:
        """Slots that the longest path of the search takes beyond the layers; 0 if paths are built, or none are searched."""
        path = self._search.layer_path
        if path is None or path.longest[0] >= path.longest[1]:
            return 0
        entry = self._file.entry("longest", self._file.corner) | {"layer_path": str(path.longest)}
        plan = self._ground.plan(self._file.sweep([entry], Split.SEARCH))
        return max(planned.job.tuning.extra_layer_slots for planned in plan.evals)

    def _with_slots(self, plan: Plan) -> Plan:
        """The plan, with engines that the longest path of the search fits in: they serve merges that are proposed later."""
        return with_path_slots(plan, self._slots) if self._slots else plan

    def _measured(self, store: Store, plan: Plan, summary: RunSummary) -> MergeReport:
        """The report with the references' values; RunError if no parent or no merge has any."""
        outcomes = store.outcomes(plan.jobs)
        references = []
        for candidate in plan.candidates:
            jobs = jobs_of(plan, candidate.name)
            values = objective_values(self._file, jobs, outcomes, Split.SEARCH)
            digests = [*(job.digest for job in jobs), *([candidate.build.digest] if candidate.build else [])]
            message = next((summary.failed[d] for d in digests if d in summary.failed), None)
            references.append(
                ReferenceResult(
                    name=candidate.name,
                    is_parent=candidate.name != AVERAGE,
                    objectives=values,
                    message=None if values is not None else message or "It was not measured.",
                )
            )
        lost = next((r for r in references if r.is_parent and r.objectives is None), None)
        if lost is not None:
            raise RunError(
                f"{lost.name} could not be measured, and every merge is compared with it: {lost.message}"
            )
        trials = store.trials(self._run_id)
        if not any(trial.objectives for trial in trials):
            raise RunError(
                f"No merge has a value; `mergeboard status {self._run_id}` tells why: "
                f"{next((t.message for t in trials if t.message), 'nothing was evaluated')}"
            )
        record = store.search(self._run_id)
        parallel = record.parallel if record is not None else 1
        return begun_report(self._file, self._run_id, parallel).model_copy(
            update={
                "references": tuple(references),
                "layers": plan.candidates[0].layers,
                "importance": importance_of(self._file, trials),
            }
        )

    def _confirmed(self, view: SearchView) -> SearchView:
        """Ask the best merges, the best of each rival method and the references other questions."""
        ranked = best_first(self._search, [t for t in view.trials if t.arm is Arm.SEARCH])
        rivals = [best for arm in Arm if arm is not Arm.SEARCH and (best := view.best(arm)) is not None]
        digests = {t.recipe_digest for t in ranked[: self._search.confirm.keep]}
        picked = [
            *ranked[: self._search.confirm.keep],
            *(t for t in rivals if t.recipe_digest not in digests),
        ]
        entries = [*reference_entries(self._file), *self._entries(picked)]
        sweep = self._file.sweep(entries, Split.CONFIRMATION, part=" confirmation")
        with self._reporting(f"confirming the best {len(picked)} on other questions") as reporter:
            run_id = self._ground.run(self._ground.plan(sweep), reporter).run_id
        report = view.report
        parent = report.better_parent
        assert parent is not None
        with Store.open(self._settings.database_url, create=False) as store:
            evidence = self._evidence(store, view, [*ranked, *rivals], run_id)
        lost = [r.name for r in report.references if r.is_parent and r.name not in evidence.confirmation]
        asked = [t for t in picked if t.candidate in evidence.confirmation]
        if lost or not any(t.arm is Arm.SEARCH for t in asked):
            what = lost[0] if lost else "None of the best merges"
            raise RunError(f"{what} could not be confirmed; `mergeboard status {run_id}` tells why.")
        confirmation = confirm_merges(
            ranked,
            asked,
            evidence,
            parents=[r.name for r in report.references if r.is_parent],
            better_parent=parent.name,
            weights={o.name: o.weight for o in self._search.objectives},
            n_tried=max(1, len({t.recipe_digest for t in view.trials})),
            run_id=run_id,
        )
        winner = max(
            (m for m in confirmation.merges if m.arm is Arm.SEARCH), key=lambda m: m.gains[parent.name].delta
        )
        confirmation = self._on_suite(confirmation, view, parent.name)
        references = tuple(
            r.model_copy(update={"confirmed": mean_values(evidence.confirmation[r.name])})
            if r.name in evidence.confirmation
            else r
            for r in report.references
        )
        changes = {"confirmation": confirmation, "winner": winner.number, "references": references}
        return view.model_copy(update={"report": report.model_copy(update=changes)})

    def _entries(self, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
        return [self._file.entry(t.candidate, t.parameters) for t in trials]

    def _evidence(
        self, store: Store, view: SearchView, trials: Sequence[TrialRecord], run_id: str
    ) -> MergeEvidence:
        home = self._settings.home
        searched = RunAnswers(store, self._file, self._run_id, Split.SEARCH, home)
        asked = RunAnswers(store, self._file, run_id, Split.CONFIRMATION, home)
        names = [r.name for r in view.report.references]
        seen = searched.questions(names[0])
        search = {
            name: answers
            for name in (*names, *(t.candidate for t in trials))
            if (answers := searched.of(name)) is not None
        }
        confirmation = {
            name: answers
            for name in (*names, *(t.candidate for t in trials))
            if (answers := asked.of(name, without=seen)) is not None
        }
        return MergeEvidence(search, confirmation)

    def _on_suite(self, confirmation: MergeConfirmation, view: SearchView, parent: str) -> MergeConfirmation:
        """Score the better half of the confirmed merges, and the references, on the benchmarks of a suite."""
        suite = self._search.confirm.suite
        if suite is None:
            return confirmation

        def gain(merge: ConfirmedMerge) -> float:
            return merge.gains[parent].delta

        half = sorted(confirmation.merges, key=gain, reverse=True)[: max(1, len(confirmation.merges) // 2)]
        trials = [view.trials[merge.number] for merge in half]
        entries = [*reference_entries(self._file), *self._entries(trials)]
        entry = SuiteEntry(suite=suite, limit=self._search.confirm.limit)
        sweep = self._file.suite_sweep(entries, entry)
        with self._reporting(f"scoring the better {len(half)} on {suite}") as reporter:
            run_id = self._ground.run(self._ground.plan(sweep), reporter).run_id
        with Store.open(self._settings.database_url, create=False) as store:
            compared = run_comparisons(results_of_run(store, run_id), self._settings.home)
        benchmarks: dict[str, dict[str, Delta]] = {}
        for comparison in compared:
            rows = {row.title: row.delta for row in comparison.rows if row.delta is not None}
            benchmarks.setdefault(comparison.candidate, {}).update(rows)
        return confirmation.model_copy(
            update={"suite": suite, "suite_run_id": run_id, "benchmarks": benchmarks}
        )


def run_id_of_search(file: SearchFile, plan: Plan) -> str:
    """Id of a search's run: the name as a slug, and the first digits of a digest of the search and its references."""
    slug = re.sub(r"[^a-z0-9]+", "-", file.search.name.lower()).strip("-")[:40] or "search"
    return f"{slug}-{digest_of([file.search.identity, plan.digest])[:8]}"


def slots_of(cluster: ClusterFacts, tensor_parallel: int) -> int:
    """Engines that a cluster can hold at once: one per GPU group, or one per node without GPUs."""
    if cluster.has_gpus:
        return max(1, sum(int(node.gpus // tensor_parallel) for node in cluster.engine_nodes))
    return max(1, len(cluster.engine_nodes))


def budget_text(file: SearchFile) -> str:
    """The budget in words."""
    budget = file.search.budget
    if budget.evaluations is not None:
        return f"{budget.evaluations:,} evaluations"
    if budget.seconds is not None:
        return f"{budget.seconds:,.0f} seconds"
    return f"{budget.gpu_hours:g} GPU-hours"


def begun_report(file: SearchFile, run_id: str, parallel: int) -> MergeReport:
    """The report of a search without results."""
    search, labels = file.search, parameter_labels(file.search.recipe, file.space)
    return MergeReport(
        name=search.name,
        run_id=run_id,
        base=search.base,
        sampler=search.sampler,
        seed=search.seed,
        parallel=parallel,
        budget=budget_text(file),
        pareto=search.pareto,
        objectives=tuple(SearchedObjective(name=o.name, weight=o.weight) for o in search.objectives),
        parameters=tuple(
            SearchedParameter(name=p.name, label=labels[p.name], low=p.low, high=p.high, log=p.log)
            for p in file.space.parameters
        ),
        gradients=file.space.gradients,
    )
