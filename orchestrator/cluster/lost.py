"""Failures of workers that died before they could answer."""

from __future__ import annotations

from pathlib import Path

import ray

from orchestrator.cluster.engines import LiveEngine
from orchestrator.cluster.helpers import EngineWork
from orchestrator.store.records import Failure, FailureClass
from orchestrator.worker.failures import lost_failure


def failure_of_lost(error: Exception, work: EngineWork, logs: Path) -> Failure:
    """The failure of work whose process died with `error`, classified by the attempt's log in `logs`."""
    out_of_memory = isinstance(error, ray.exceptions.OutOfMemoryError)
    node = work.place.spot.node.host if isinstance(work.place, LiveEngine) else work.place.host
    jobs = max(1, len(work.tasks))
    if not out_of_memory and work.tasks:
        failure = lost_failure(logs / f"{work.tasks[0].attempt_id}.log")
        if failure is not None:
            return failure.model_copy(update={"node": node, "jobs": jobs})
    return Failure(
        failure_class=FailureClass.OUT_OF_MEMORY if out_of_memory else FailureClass.LOST_NODE,
        message="The worker was ended for its memory use."
        if out_of_memory
        else "The worker process died before it could answer.",
        log_tail="\n".join(str(error).strip().splitlines()[-20:]),
        node=node,
        jobs=jobs,
    )
