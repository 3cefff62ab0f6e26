"""What a failed attempt deserves: how often its job is tried again, after which pause, and in which form."""

from __future__ import annotations

from evals.engine import EngineTuning
from orchestrator.jobs import BuildJob, EvalJob
from orchestrator.records import FailureClass

RETRIES = {
    FailureClass.LOST_NODE: 3,
    FailureClass.OUT_OF_MEMORY: 3,
    FailureClass.HUNG_ENGINE: 2,
    FailureClass.FULL_DISK: 3,
    FailureClass.UNKNOWN: 1,
}
"""How often a job is tried again after a failure of each class; classes that are not here are never retried."""
PAUSE_S = {FailureClass.FULL_DISK: 20.0, FailureClass.LOST_NODE: 1.0}
"""Seconds before the first retry, where they are not `_USUAL_PAUSE_S`; twice as many before each further one."""
_USUAL_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_USUAL_BATCH = 32


def is_retried(kind: FailureClass, count: int) -> bool:
    """Whether a job is tried again after its `count`-th failure of a class."""
    return count <= RETRIES.get(kind, 0)


def pause_s(kind: FailureClass, count: int) -> float:
    """Seconds for which a job rests after its `count`-th failure of a class."""
    return min(_LONGEST_PAUSE_S, PAUSE_S.get(kind, _USUAL_PAUSE_S) * 2 ** (count - 1))


def as_retried(job: BuildJob | EvalJob, kind: FailureClass) -> BuildJob | EvalJob:
    """The job as it is tried again: with half the batch where memory was short, else as it was."""
    if kind is not FailureClass.OUT_OF_MEMORY or isinstance(job, BuildJob):
        return job
    size = max(1, (job.tuning.batch_size or _USUAL_BATCH) // 2)
    tuning = EngineTuning.model_validate({**job.tuning.model_dump(), "batch_size": size})
    return job.model_copy(update={"tuning": tuning})
