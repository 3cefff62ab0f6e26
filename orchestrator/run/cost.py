"""Estimates a plan's time and disk use, from durations measured in the store if any, else from a model."""

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
from recipes.layer_visit import Layers


class PlanCost(Frozen):
    """Estimated time and disk use of a plan's open jobs."""

    jobs_left: int = Field(description="Jobs without an outcome in the store.")
    duration_s: float | None = Field(
        description="Engine time in seconds; null if a checkpoint's size is unknown."
    )
    measured_share: float = Field(description="Share of the jobs whose estimate is based on measured jobs.")
    on_gpu: bool = Field(description="Whether the estimate is for GPUs.")
    build_bytes: int | None = Field(description="Disk bytes of the builds; null if unknown.")

    @property
    def sentence(self) -> str:
        """The estimate as one sentence."""
        if self.jobs_left == 0:
            return "Everything is in the store; nothing is left to do."
        unit = "GPU" if self.on_gpu else "this machine"
        time = "unknown" if self.duration_s is None else f"{about(self.duration_s)} of {unit}"
        source = "measured here" if self.measured_share > 0.5 else "a rough model, not measured yet"
        disk = f", {size(self.build_bytes)} of disk" if self.build_bytes else ""
        return f"{self.jobs_left} jobs are left: {time} ({source}){disk}."


def plan_cost(plan: Plan, done: Collection[str], settings: Settings) -> PlanCost:
    """Estimate time and disk use of a plan's open jobs; `done` are the digests of the others."""
    open_jobs = {digest: job for digest, job in plan.jobs.items() if digest not in done}
    evals = [job for job in open_jobs.values() if isinstance(job, EvalJob)]
    on_gpu = _on_gpu()
    durations = expected_durations(plan, settings)
    expected = [durations.expected(durations.workload(job)) for job in evals]
    engines = {job.engine_key: job for job in evals}.values()
    seconds = [estimate.seconds for estimate in expected if estimate.seconds is not None]
    duration_s = sum(seconds) + sum(map(durations.start_s, engines)) if len(seconds) == len(evals) else None
    builds = [c.parameters for c in plan.candidates if c.build and c.build.digest in open_jobs]
    return PlanCost(
        jobs_left=len(open_jobs),
        duration_s=duration_s,
        measured_share=sum(estimate.measured for estimate in expected) / max(1, len(evals)),
        on_gpu=on_gpu,
        build_bytes=sum(2 * p for p in builds if p) if all(builds) else None,
    )


def expected_durations(plan: Plan, settings: Settings) -> Durations:
    """Expected durations of a plan's jobs on this machine, from its store if there is one."""
    on_gpu = _on_gpu()
    durations = Durations(_parameters(plan), on_gpu=on_gpu, starts=EngineStarts(settings.home))
    with (
        contextlib.suppress(MergeboardError),
        Store.open(settings.database_url, create=False, read_only=True) as store,
    ):
        learn_from_store(durations, store, on_gpu=on_gpu)
    return durations


def _on_gpu() -> bool:
    return bool(os.environ.get("CUDA_VISIBLE_DEVICES")) or bool(hardware().gpus)


def durations_of(plan: Plan, store: Store, *, on_gpu: bool, home: Path | None = None) -> Durations:
    """Expected durations of a plan's jobs and engine starts, corrected by earlier measurements.

    Job durations are read from the store, engine starts from `home`.
    """
    durations = Durations(_parameters(plan), on_gpu=on_gpu, starts=EngineStarts(home))
    learn_from_store(durations, store, on_gpu=on_gpu)
    return durations


def learn_from_store(
    durations: Durations, store: Store, *, on_gpu: bool | None = None, run_id: str | None = None
) -> None:
    """Learn from the durations in the store, or of one run; `on_gpu` None means machines of both kinds."""
    for work in store.measured_work(run_id):
        if on_gpu is None or work.on_gpu == on_gpu:
            durations.learn(work.workload, work.duration_s)


def _parameters(plan: Plan) -> dict[tuple[str, Layers | None], int | None]:
    return {(c.weights_digest, c.layer_path): c.parameters for c in plan.candidates}
