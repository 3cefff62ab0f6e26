"""A search over merges as a value and in a store, for pictures, reports and pages."""

from __future__ import annotations

import random
from pathlib import Path

from evals.probes import Finding, Gain
from evals.stats import Interval, shrinkage
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
from orchestrator.store.records import AttemptRecord, RunState
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from tests.support.store_data import demo_run, outcome_of

POINTS = ("models.0.parameters.weight[0]", "models.0.parameters.weight[1]")
NAMES = (*POINTS, "models.1.parameters.density", "merge_method")


def merge_view(
    *, real: bool = True, confirmed: bool = True, name: str = "two <b>specialists</b>"
) -> SearchView:
    """Twelve merges by the search and six at random, of two objectives, a gradient, a logarithmic range and a choice."""
    trials = [trial(n, Arm.SEARCH if n < 12 else Arm.RANDOM) for n in range(18)]
    trials[3] = trials[3].model_copy(
        update={"state": TrialState.FAILED, "objectives": None, "message": "No memory <i>left</i>."}
    )
    parameters = [SearchedParameter(name=point, low=0, high=1) for point in POINTS]
    parameters += [
        SearchedParameter(name=NAMES[2], low=0.1, high=1, log=True),
        SearchedParameter(name=NAMES[3]),
    ]
    report = MergeReport(
        name=name, run_id="search-1", base="org/base", sampler="gp", seed=0, parallel=2, budget="12 evaluations", pareto=False,
        objectives=(SearchedObjective(name="arithmetic-easy-scored", weight=1), SearchedObjective(name="reasoning-easy-scored", weight=2)),
        parameters=tuple(parameters), gradients={"models.0.parameters.weight": POINTS},
        references=tuple(
            ReferenceResult(name=n, is_parent=n != "plain average", objectives=(v, v / 2), confirmed=(v, v / 2) if confirmed else None)
            for n, v in (("base", 0.3), ("arithmetic", 0.5), ("plain average", 0.45))
        ),
        importance=dict(zip(NAMES, (0.6, 0.2, 0.15, 0.05), strict=True)),
    )  # fmt: skip
    if not confirmed:
        return SearchView(report=report, trials=tuple(trials))
    merges = tuple(
        confirmed_merge(trials[n], rank, 0.08 if real and rank == 1 else 0.0)
        for rank, n in enumerate((5, 7), 1)
    )
    confirmation = MergeConfirmation(
        run_id="search-2",
        n_tried=18,
        n_questions=192,
        merges=merges,
        shrinkage=shrinkage([0.1, 0.09], [0.08, 0.0]),
        detectable=0.04,
    )
    return SearchView(
        report=report.model_copy(update={"confirmation": confirmation, "winner": 5}), trials=tuple(trials)
    )


def trial(number: int, arm: Arm) -> TrialRecord:
    rng = random.Random(number)
    values = [round(rng.random(), 4) for _ in range(3)]
    parameters = dict(
        zip(NAMES, [*values[:2], 0.1 + 0.9 * values[2], rng.choice(["ties", "linear"])], strict=True)
    )
    return TrialRecord(
        number=number, arm=arm, parameters=parameters, candidate=f"trial {number}", recipe_digest=f"recipe:{number}",
        state=TrialState.COMPLETE, objectives=(0.2 + 0.4 * values[0], 0.3 + 0.3 * values[1]), cost_s=2.0,
    )  # fmt: skip


def confirmed_merge(tried: TrialRecord, rank: int, delta: float) -> ConfirmedMerge:
    gain = Gain(
        delta=delta, stderr=0.01, interval=Interval(low=delta - 0.02, high=delta + 0.02), p=0.0001 if delta else 0.5, n=192,
        by_probe={},
    )  # fmt: skip
    assert tried.objectives is not None
    return ConfirmedMerge(
        number=tried.number, arm=tried.arm, rank=rank, objectives=tried.objectives, confirmed=tried.objectives,
        search=gain.model_copy(update={"delta": 0.1}), expected=0.06, gains=dict.fromkeys(("base", "arithmetic", "plain average"), gain),
        p=gain.p, p_confirmed=gain.p, p_tried=min(1.0, 18 * gain.p), finding=Finding.REAL if delta else Finding.NOT_CONFIRMED,
    )  # fmt: skip


def merge_store(home: Path, view: SearchView, *, ended: bool = True) -> str:
    """A store with the run of a search; the run's id."""
    home.mkdir(parents=True, exist_ok=True)
    with Store.open(f"sqlite:///{home}/store.sqlite") as store:
        run, candidates, planned = demo_run(view.report.name)
        store.create_run(run, candidates, planned)
        store.begin_search(run.id, "name: s", str(home), 2)
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        first = next(item.job for item in planned if item.job.kind == "eval" and not item.job.needs)
        attempt = store.start_attempt(lease, first.digest)
        assert isinstance(attempt, AttemptRecord)
        store.finish_attempt(attempt.id, outcome_of(first))
        for each in view.trials:
            store.add_trial(lease, each)
        store.keep_search_report(run.id, view.report.model_copy(update={"run_id": run.id}).model_dump_json())
        if ended:
            store.finish_run(lease, RunState.DONE)
    return run.id
