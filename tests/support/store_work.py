"""Runs that are driven in a store, and jobs that are started and finished in it."""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.records import Acceptance, AttemptRecord, Failure, FailureClass, RunLease, RunState
from tests.support.store_data import demo_run, outcome_of

BAD_INPUT = Failure(failure_class=FailureClass.BAD_INPUT, message="No.", log_tail="last line")


def driven(store: Store, owner: str = "me", name: str = "a sweep") -> RunLease:
    """The demo's run with its lease."""
    run, candidates, planned = demo_run(name)
    store.create_run(run, candidates, planned, owner=owner)
    lease = store.take_lease(run.id, owner)
    assert lease is not None
    return lease


def started(store: Store, lease: RunLease, digest: str) -> AttemptRecord:
    attempt = store.start_attempt(lease, digest)
    assert isinstance(attempt, AttemptRecord), attempt
    return attempt


def finish_all(store: Store, lease: RunLease) -> None:
    for planned in store.run_jobs(lease.run_id):
        attempt = started(store, lease, planned.job.digest)
        assert store.finish_attempt(attempt.id, outcome_of(planned.job)) is Acceptance.ACCEPTED
    assert store.finish_run(lease, RunState.DONE)
