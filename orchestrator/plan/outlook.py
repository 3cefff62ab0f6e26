"""The remaining time of a run out of what is open, what runs and what has been measured; the same for driver and onlookers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.durations import ENGINE_START_S, Durations, Workload
from orchestrator.plan.remaining import RunningBatch, Waiting, remaining_s


class ActiveBatch(Frozen):
    """Jobs that one engine, or a build that one node, works on."""

    workload: Workload = Field(description="What decides how long each of its jobs takes.")
    jobs: int = Field(ge=1, description="How many jobs.")
    elapsed_s: float = Field(
        ge=0, description="Seconds since it began to work, or since its engine began to start."
    )
    engine_start_s: float | None = Field(
        default=None, description="Expected seconds of its engine's start; null once that has started."
    )
    share_done: float | None = Field(
        default=None, description="Share of its work that is done, where counted."
    )
    counted_s: float = Field(
        default=0.0, ge=0, description="Seconds of work after which it had done that share."
    )


def left_s(
    durations: Durations,
    waiting: Mapping[Workload, int],
    running: Iterable[ActiveBatch],
    *,
    parallel: int,
    starts_s: float = 0.0,
) -> float | None:
    """Seconds until a run's last job ends; null where nothing has been measured that an estimate could rest on.

    `parallel` is how many engines take jobs, `starts_s` what further starts of engines take.
    """
    active = []
    for batch in running:
        seconds, measured = durations.expected(batch.workload)
        active.append(
            RunningBatch(
                expected_s=None if seconds is None else seconds * batch.jobs,
                measured=measured,
                elapsed_s=batch.elapsed_s,
                start_s=batch.engine_start_s,
                share_done=batch.share_done,
                counted_s=batch.counted_s,
            )
        )
    open_jobs = []
    for workload, count in waiting.items():
        seconds, measured = durations.expected(workload)
        open_jobs.append(Waiting(count=count, expected_s=seconds, measured=measured))
    return remaining_s(active, open_jobs, parallel=parallel, starts_s=starts_s)


def active_batch(
    workload: Workload,
    jobs: int,
    *,
    since_start_s: float,
    share_done: float | None,
    counted_s: float,
    since_count_s: float,
    starting: bool,
    engine_start_s: float = ENGINE_START_S,
) -> ActiveBatch:
    """A running batch out of what its worker wrote down, `since_count_s` ago, and when it was started."""
    if share_done is not None:
        return ActiveBatch(
            workload=workload,
            jobs=jobs,
            elapsed_s=counted_s + since_count_s,
            share_done=share_done,
            counted_s=counted_s,
        )
    return ActiveBatch(
        workload=workload,
        jobs=jobs,
        elapsed_s=since_start_s,
        engine_start_s=engine_start_s if starting else None,
    )
