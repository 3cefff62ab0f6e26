"""What a plan will cost: hours, bytes on disk. Measured durations where the store has some, else a model of the work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.display.format import about, size
from orchestrator.errors import MergeboardError
from orchestrator.plan.durations import Durations
from orchestrator.plan.engine_starts import EngineStarts
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.provenance import hardware
from orchestrator.settings import Settings
from orchestrator.store import Store


class PlanCost(Frozen):
    """An estimate of what is left to do."""

    jobs_left: int = Field(description="Jobs that are not in the store.")
    duration_s: float | None = Field(
        description="Hours of one engine, in seconds; null where a size is not known."
    )
    measured_share: float = Field(description="Share of the jobs whose estimate comes from measured ones.")
    on_gpu: bool = Field(description="Whether the estimate is for GPUs.")
    build_bytes: int | None = Field(description="Disk that the builds take; null where unknown.")

    @property
    def sentence(self) -> str:
        """The estimate for people."""
        if self.jobs_left == 0:
            return "Everything is in the store; nothing is left to do."
        unit = "GPU" if self.on_gpu else "this machine"
        time = "unknown" if self.duration_s is None else f"{about(self.duration_s)} of {unit}"
        source = "measured here" if self.measured_share > 0.5 else "a rough model, not measured yet"
        disk = f", {size(self.build_bytes)} of disk" if self.build_bytes else ""
        return f"{self.jobs_left} jobs are left: {time} ({source}){disk}."


def plan_cost(plan: Plan, done: Collection[str], settings: Settings) -> PlanCost:
    """Estimate what a plan's open jobs take."""
    left = {digest: job for digest, job in plan.jobs.items() if digest not in done}
    evals = [job for job in left.values() if isinstance(job, EvalJob)]
    on_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES")) or bool(hardware().gpus)
    durations = Durations(_parameters(plan), on_gpu=on_gpu, starts=EngineStarts(settings.home))
    with (
        contextlib.suppress(MergeboardError),
        Store.open(settings.database_url, create=False, read_only=True) as store,
    ):
        learn_from_store(durations, store, on_gpu=on_gpu)
    expected = [durations.expected(durations.workload(job)) for job in evals]
    engines = {job.engine_key: job for job in evals}.values()
    known = [each.seconds for each in expected if each.seconds is not None]
    duration_s = sum(known) + sum(map(durations.start_s, engines)) if len(known) == len(evals) else None
    builds = [c.parameters for c in plan.candidates if c.build and c.build.digest in left]
    return PlanCost(
        jobs_left=len(left),
        duration_s=duration_s,
        measured_share=sum(each.measured for each in expected) / max(1, len(evals)),
        on_gpu=on_gpu,
        build_bytes=sum(2 * p for p in builds if p) if all(builds) else None,
    )


def durations_of(plan: Plan, store: Store, *, on_gpu: bool, home: Path | None = None) -> Durations:
    """What a plan's jobs and their engines' starts are expected to take, corrected by what was measured before.

    Durations are in the store, starts under `home`.
    """
    known = Durations(_parameters(plan), on_gpu=on_gpu, starts=EngineStarts(home))
    learn_from_store(known, store, on_gpu=on_gpu)
    return known


def learn_from_store(
    durations: Durations, store: Store, *, on_gpu: bool | None = None, run_id: str | None = None
) -> None:
    """Take in what a store's jobs, or those of one run, took: on GPUs, on machines without, or on any."""
    for work in store.measured_work(run_id):
        if on_gpu is None or work.on_gpu == on_gpu:
            durations.learn(work.workload, work.duration_s)


def _parameters(plan: Plan) -> dict[tuple[str, tuple[int, ...] | None], int | None]:
    return {(c.weights_digest, c.layer_path): c.parameters for c in plan.candidates}
