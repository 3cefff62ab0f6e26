"""Remaining time of a run from its waiting and running jobs, for the driver and for readers of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.durations import ENGINE_START_S, Durations, Workload
from orchestrator.plan.remaining import RunningBatch, Waiting, remaining_s


class ActiveBatch(Frozen):
    """Jobs that run as one batch on an engine, or a build on a node."""

    workload: Workload = Field(description="Properties that determine the duration of each of its jobs.")
    jobs: int = Field(ge=1, description="How many jobs.")
    elapsed_s: float = Field(
        ge=0, description="Seconds since its work began, or since its engine began to start."
    )
    engine_start_s: float | None = Field(
        default=None, description="Expected seconds of its engine's start; null once the engine has started."
    )
    share_done: float | None = Field(
        default=None, description="Share of its work that is done; null if not counted."
    )
    counted_s: float = Field(
        default=0.0, ge=0, description="Seconds of work after which that share was done."
    )


def left_s(
    durations: Durations,
    waiting: Mapping[Workload, int],
    running: Iterable[ActiveBatch],
    *,
    parallel: int,
    starts_s: float = 0.0,
) -> float | None:
    """Seconds until a run's last job ends; None without measurements to base an estimate on.

    `parallel` is the number of engines that take jobs, `starts_s` the seconds of engine starts to come.
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
    """A running batch from its start time and from the progress that its worker wrote `since_count_s` ago."""
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
