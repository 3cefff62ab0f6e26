"""What a plan will cost: hours, bytes on disk. Measured durations where the store has some, else a model of the work."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.errors import MergeboardError
from orchestrator.plan.engine_starts import EngineStarts
from orchestrator.plan.estimate import ENGINE_START_S, Durations, model_s
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.provenance import hardware
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import Protocol


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
        time = "unknown" if self.duration_s is None else f"about {_duration(self.duration_s)} of {unit}"
        source = "measured here" if self.measured_share > 0.5 else "a rough model, not measured yet"
        disk = f", {self.build_bytes / 1e9:.2f} GB of disk" if self.build_bytes else ""
        return f"{self.jobs_left} jobs are left: {time} ({source}){disk}."


def plan_cost(plan: Plan, done: Collection[str], settings: Settings) -> PlanCost:
    """Estimate what a plan's open jobs take."""
    left = {digest: job for digest, job in plan.jobs.items() if digest not in done}
    evals = [job for job in left.values() if isinstance(job, EvalJob)]
    measured = _measured(evals, settings)
    on_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES")) or bool(hardware().gpus)
    sizes = {(c.weights_digest, c.layer_path): c.parameters for c in plan.candidates}
    parts = [_job_s(job, measured, sizes.get((job.weights_digest, job.layer_path)), on_gpu) for job in evals]
    starts = EngineStarts(settings.home)
    engines = {job.engine_key: job.engine for job in evals}.values()
    start_s = sum(starts.expected_s(engine) or ENGINE_START_S for engine in engines)
    known = [part for part in parts if part is not None]
    duration_s = sum(known) + start_s if len(known) == len(parts) else None
    builds = [c.parameters for c in plan.candidates if c.build and c.build.digest in left]
    return PlanCost(
        jobs_left=len(left),
        duration_s=duration_s,
        measured_share=sum(Protocol.of(j).digest in measured for j in evals) / max(1, len(evals)),
        on_gpu=on_gpu,
        build_bytes=sum(2 * p for p in builds if p) if all(builds) else None,
    )


def durations_of(plan: Plan, store: Store, *, on_gpu: bool, home: Path | None = None) -> Durations:
    """What a plan's jobs and their engines' starts are expected to take, corrected by what was measured before.

    Durations are in the store, starts under `home`.
    """
    known = Durations(
        {(c.weights_digest, c.layer_path): c.parameters for c in plan.candidates},
        on_gpu=on_gpu,
        starts=EngineStarts(home),
    )
    firsts: dict[str, EvalJob] = {}
    for planned in plan.evals:
        if planned.candidate == plan.candidates[0].name:
            firsts.setdefault(Protocol.of(planned.job).digest, planned.job)
    for digest, mean_s in store.mean_durations(firsts).items():
        known.learn(firsts[digest], mean_s)
    return known


def _measured(evals: list[EvalJob], settings: Settings) -> dict[str, float]:
    """Mean seconds of finished evaluations with the same protocol."""
    wanted = {Protocol.of(job).digest for job in evals}
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            return store.mean_durations(wanted)
    except MergeboardError:
        return {}


def _job_s(job: EvalJob, measured: Mapping[str, float], parameters: int | None, on_gpu: bool) -> float | None:
    """Seconds of one evaluation."""
    known = measured.get(Protocol.of(job).digest)
    return known if known is not None else model_s(job, parameters, on_gpu=on_gpu)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
