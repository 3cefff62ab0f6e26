"""Time and GPU time of a run by node, on both databases."""

from __future__ import annotations

import time

from orchestrator.store import Store
from orchestrator.store.records import AttemptRecord, Failure, FailureClass
from tests.support.store_data import HARDWARE, demo_run, outcome_of


def test_hours_by_node_count_what_failed_as_well(store: Store) -> None:
    run, candidates, planned = demo_run()
    store.create_run(run, candidates, planned, owner="me")
    lease = store.take_lease(run.id, "me")
    assert lease is not None
    first, second, third = (item.job for item in planned[:3])
    ids = []
    for job, node in ((first, "node-1"), (second, "node-2"), (third, "node-2")):
        attempt = store.start_attempt(lease, job.digest, node=node)
        assert isinstance(attempt, AttemptRecord)
        ids.append(attempt.id)
    time.sleep(0.2)
    with_gpus = HARDWARE.model_copy(update={"host": "node-2", "gpus": ("H100",)})
    store.finish_attempt(ids[0], outcome_of(first))
    store.finish_attempt(ids[1], outcome_of(second).model_copy(update={"hardware": with_gpus}))
    store.fail_attempt(
        ids[2], Failure(failure_class=FailureClass.UNKNOWN, message="x", node="node-2"), will_retry=True
    )
    usage = {each.node: each for each in store.usage(run.id)}
    assert {node: each.attempts for node, each in usage.items()} == {"node-1": 1, "node-2": 2}
    assert usage["node-1"].gpu_s == 0
    assert 0.2 < usage["node-2"].job_s < 60
    assert usage["node-2"].gpu_s == usage["node-2"].job_s
