"""Runs that grow while the store is away for a moment, and while artifacts are evicted between two rounds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compare.candidate_races import candidate_race_of
from orchestrator.errors import StoreLost
from orchestrator.plan.job import CheckpointPlace
from orchestrator.run.artifact_use import ArtifactUse
from orchestrator.run.job_state import Frontier, NodeState
from orchestrator.run.run_jobs import RunJobs
from orchestrator.store import Store
from recipes.artifact import ArtifactStore
from tests.support.raced import Racer, raced_plan, run_race
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import build_job, eval_job
from tests.support.store_work import driven, finish_all


@pytest.mark.parametrize("before", [True, False], ids=["before jobs are stored", "after they are stored"])
def test_a_store_that_is_away_between_rounds_loses_none(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is away once in each round, when the run asks it to add jobs or reads which of them are done."""
    calm, expected = run_race(tmp_path / "calm", raced_plan(), Racer())
    add_jobs, done, outages = Store.add_jobs, Store.done, [True]

    def adding(store: Store, *arguments: Any) -> bool:
        if before and outages[-1]:
            outages.append(False)
            raise StoreLost("The store does not answer.")
        outages.append(True)
        return add_jobs(store, *arguments)

    def reading(store: Store, digests: Iterable[str]) -> set[str]:
        if not before and len(outages) > 1 and outages[-1]:
            outages.append(False)
            raise StoreLost("The store does not answer.")
        return done(store, digests)

    monkeypatch.setattr(Store, "add_jobs", adding)
    monkeypatch.setattr(Store, "done", reading)
    summary, store = run_race(tmp_path / "home", raced_plan(), Racer())
    assert outages.count(False) == 2
    assert (summary.done, summary.failed) == (calm.done, calm.failed)
    assert candidate_race_of(store, store.run(summary.run_id)) == candidate_race_of(
        expected, expected.run(calm.run_id)
    )


def test_a_build_whose_artifact_is_gone_is_built_again_for_later_jobs() -> None:
    frontier: Frontier[str] = Frontier({"build": [], "part": ["build"]}, group=lambda digest: "all")
    for digest in ("build", "part"):
        frontier.started(digest)
        frontier.done(digest)
    frontier.reopen("build")
    frontier.add({"rest": ["build"]})
    assert not frontier.finished
    assert [list(ready) for ready in frontier.ready().values()] == [["build"]]
    frontier.done("build")
    assert [frontier.state(d) for d in ("build", "part", "rest")] == [
        NodeState.DONE,
        NodeState.DONE,
        NodeState.READY,
    ]


def test_jobs_that_join_find_an_evicted_artifact_open_again(tmp_path: Path) -> None:
    """The build is in the store and its files are gone, as after `cache prune` between two rounds of a race."""
    store, build = Store.open(f"sqlite:///{tmp_path}/store.sqlite"), build_job()
    finish_all(store, driven(store))
    plan = stand_in_plan(2)
    jobs = RunJobs(store, ArtifactUse(ArtifactStore(tmp_path / "artifacts")), plan)
    jobs.begin(plan.jobs)
    assert list(jobs.join({build.digest: build}, {build.digest: "build"})) == [build.digest]
    assert (jobs.frontier.state(build.digest), jobs.cached) == (NodeState.DONE, 1)
    later = eval_job("musr").model_copy(update={"place": CheckpointPlace(artifact=build.digest)})
    new = {later.digest: later, build.digest: build}
    assert list(jobs.join(new, dict.fromkeys(new, "later"))) == [later.digest]
    assert jobs.frontier.state(build.digest) is NodeState.READY
    assert jobs.frontier.state(later.digest) is NodeState.WAITING
    assert build.digest not in store.done([build.digest])
