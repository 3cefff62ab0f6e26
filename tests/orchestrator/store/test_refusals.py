"""Refusals of live layer paths, and builds that join a run because of them."""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.records import Failure, FailureClass, PlannedJob, RunState
from tests.support.store_data import ENGINE, HUB_BASE, build_job, candidate, eval_job, new_run
from tests.support.store_work import driven, started

PATH = (0, 1, 2, 1, 2, 3)
OTHER_ENGINE = ENGINE.model_copy(update={"dtype": "bfloat16"})
REFUSED = Failure(failure_class=FailureClass.LIVE_REFUSED, message="It cannot.")


def test_a_refusal_is_known_to_later_runs_of_the_same_code(store: Store) -> None:
    lease = driven(store)
    job = eval_job("ifeval", PATH)
    code = new_run().provenance
    assert store.live_refusals([HUB_BASE], code) == ()
    attempt = started(store, lease, job.digest)
    assert store.fail_attempt(attempt.id, REFUSED, will_retry=True)
    (refusal,) = store.live_refusals([HUB_BASE, "another"], code)
    assert (refusal.job, refusal.failure_class, refusal.message) == (
        job,
        FailureClass.LIVE_REFUSED,
        "It cannot.",
    )
    assert store.live_refusals(["another"], code) == ()
    assert store.live_refusals([HUB_BASE], code.model_copy(update={"commit": "def"})) == ()
    assert store.live_refusals([HUB_BASE], code.model_copy(update={"versions": {"mergeboard": "9"}})) == ()


def test_a_run_knows_the_refusals_that_other_runs_met(store: Store) -> None:
    """Of its own paths and engines alone, and none from after its end."""
    lease, later, ended = driven(store), driven(store, name="later"), driven(store, name="ended")
    assert store.finish_run(ended, RunState.DONE)
    refused = {
        FailureClass.PATH_REFUSED: eval_job("ifeval", PATH),
        FailureClass.LIVE_REFUSED: eval_job("bbh", PATH),
    }
    assert store.earlier_refusals(store.run(later.run_id)) == ()
    for kind, job in refused.items():
        attempt = started(store, lease, job.digest)
        assert store.fail_attempt(
            attempt.id, REFUSED.model_copy(update={"failure_class": kind}), will_retry=True
        )
    earlier = store.earlier_refusals(store.run(later.run_id))
    assert {refusal.failure_class: refusal.job for refusal in earlier} == refused
    assert store.earlier_refusals(store.run(ended.run_id)) == ()
    assert store.earlier_refusals(store.run(lease.run_id)) == (), "its own are among its failed attempts"
    for job, kinds in (
        (eval_job("bbh", (0, 1, 1, 2)), {FailureClass.LIVE_REFUSED}),
        (eval_job("bbh", PATH).model_copy(update={"engine": OTHER_ENGINE}), set()),
        (eval_job("bbh"), set()),
    ):
        store.create_run(run := new_run(), [candidate(0)], [PlannedJob(job=job, candidates=(0,))])
        assert {refusal.failure_class for refusal in store.earlier_refusals(store.run(run.id))} == kinds


def test_builds_join_a_run_once_and_serve_the_candidates_of_their_evaluations(store: Store) -> None:
    lease = driven(store)
    before = store.run_jobs(lease.run_id)
    build = build_job("path")
    needed_by = [eval_job(benchmark, PATH).digest for benchmark in ("bbh", "ifeval")]
    for _ in range(2):
        assert store.add_builds(lease, {build.digest: (build, needed_by)})
    assert store.run_jobs(lease.run_id) == (*before, PlannedJob(job=build, candidates=(1,)))
    started(store, lease, build.digest)
    stale = lease.model_copy(update={"token": lease.token + 1})
    other = build_job("other")
    assert not store.add_builds(stale, {other.digest: (other, needed_by)})
    assert len(store.run_jobs(lease.run_id)) == len(before) + 1
