"""Retry policy: how often a failed job is tried again, after what delay, where, and with which changes.

A retry never changes a job's identity (dtype, maximum length, tensor parallelism): a failure that needs such
a change ends in an error message. docs/failures.md shows the policy beside the error texts.
"""

from __future__ import annotations

import re
from typing import Any

from evals.engine import EngineTuning
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.store.records import Failure, FailureClass

RETRIES = {
    FailureClass.LOST_NODE: 3,
    FailureClass.OUT_OF_MEMORY: 3,
    FailureClass.TOO_LARGE: 1,
    FailureClass.BUSY_GPU: 4,
    FailureClass.BROKEN_ENGINE: 2,
    FailureClass.BAD_NODE: 2,
    FailureClass.ENGINE_START: 2,
    FailureClass.HUNG_ENGINE: 2,
    FailureClass.FULL_DISK: 3,
    FailureClass.CHANGED_INPUT: 1,
    FailureClass.UNKNOWN: 1,
}
"""Number of retries after failures of each class; classes that are not listed are never retried."""
PAUSE_S = {FailureClass.FULL_DISK: 20.0, FailureClass.LOST_NODE: 1.0, FailureClass.BUSY_GPU: 15.0}
"""Seconds before the first retry, if not `_USUAL_PAUSE_S`; doubled before each further retry."""
_USUAL_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_USUAL_BATCH = 32
# Share of a GPU's memory. vLLM's default is 0.9; the CUDA context and other untracked memory need the rest.
_LARGEST_SHARE = 0.95
_SMALLEST_SHARE = 0.6
_SHARE_STEP = 0.05
# Free memory fluctuates while an engine starts.
_SHARE_MARGIN = 0.02
# With less than this part of the requested share, wait for the other process instead of starting smaller.
_ENOUGH = 0.75
_FREE = re.compile(r"Free memory on device[^(]{0,40}\(([0-9.]{1,12})/([0-9.]{1,12}) GiB\)")


def is_retried(kind: FailureClass, count: int) -> bool:
    """Whether a job is tried again after its `count`-th failure of a class."""
    return count <= RETRIES.get(kind, 0)


def pause_s(kind: FailureClass, count: int) -> float:
    """Seconds until a job is retried after its `count`-th failure of a class."""
    return min(_LONGEST_PAUSE_S, PAUSE_S.get(kind, _USUAL_PAUSE_S) * 2 ** (count - 1))


def as_retried(job: BuildJob | EvalJob, failure: Failure, count: int = 1) -> BuildJob | EvalJob:
    """The job with the changes for its retry after its `count`-th failure of this class.

    Out of memory: half the batch size, and a smaller GPU share for weights and KV cache, which leaves more
    for activations and graphs. Too large: half the batch size, a larger share. Busy GPU: the free share, if it
    is most of the requested one. A batch of several jobs whose engine broke, or died twice: one job per batch.
    """
    if isinstance(job, BuildJob):
        return job
    kind, tuning = failure.failure_class, job.tuning
    changes: dict[str, Any] = {}
    if kind in (FailureClass.OUT_OF_MEMORY, FailureClass.TOO_LARGE):
        changes["batch_size"] = max(1, (failure.batch_size or tuning.batch_size or _USUAL_BATCH) // 2)
    if kind is FailureClass.OUT_OF_MEMORY:
        smaller = max(_SMALLEST_SHARE, tuning.gpu_memory_share - _SHARE_STEP)
        changes["gpu_memory_share"] = min(tuning.gpu_memory_share, round(smaller, 2))
    elif kind is FailureClass.TOO_LARGE:
        changes["gpu_memory_share"] = max(tuning.gpu_memory_share, _LARGEST_SHARE)
    elif kind is FailureClass.BUSY_GPU:
        changes["gpu_memory_share"] = _free_share(failure.message, tuning.gpu_memory_share)
    broke = kind is FailureClass.BROKEN_ENGINE or (kind is FailureClass.LOST_NODE and count > 1)
    update: dict[str, Any] = {"alone": True} if broke and failure.jobs > 1 else {}
    if changes:
        update["tuning"] = EngineTuning.model_validate({**tuning.model_dump(), **changes})
    return job.model_copy(update=update) if update else job


def _free_share(message: str, share: float) -> float:
    """The free share of GPU memory that vLLM reported, if it is most of `share`; else `share`."""
    free = _FREE.search(message)
    if free is None or not float(free[2]):
        return share
    free_share = round(float(free[1]) / float(free[2]) - _SHARE_MARGIN, 2)
    return min(share, free_share) if free_share >= _ENOUGH * share else share
