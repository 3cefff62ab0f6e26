"""Refusals of live layer paths, and builds that join a run because of them."""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.records import Failure, FailureClass, PlannedJob
from tests.support.store_data import HUB_BASE, build_job, eval_job, new_run
from tests.support.store_work import driven, started

PATH = (0, 1, 2, 1, 2, 3)
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
