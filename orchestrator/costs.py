"""What a plan will cost: hours, bytes on disk. Measured durations where the store has some, else a model of the work."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from pydantic import Field

from evals.probes import Form, get_probe
from evals.suite import Benchmark, OutputKind, load_suite
from orchestrator.errors import MergeboardError
from orchestrator.jobs import EvalJob, Frozen
from orchestrator.plan import Plan
from orchestrator.provenance import hardware
from orchestrator.records import Protocol
from orchestrator.settings import Settings
from orchestrator.store import Store

# Tokens of a typical document, what its prompt shares with others left out: read, written.
_TOKENS = {OutputKind.MULTIPLE_CHOICE: (260.0, 0.0), OutputKind.GENERATION: (350.0, 300.0)}
_PROBE_TOKENS = {OutputKind.MULTIPLE_CHOICE: (40.0, 0.0), OutputKind.GENERATION: (80.0, 40.0)}
_DOCUMENTS = 250
# Effective arithmetic, in floating-point operations per second: measured here with SmolLM2-135M in bf16 on a CPU;
# for a GPU, 40 % of an H100's dense bf16 peak while reading. Writing is bound by memory, not arithmetic.
_CPU_CORE_FLOPS = 1.75e11
_GPU_FLOPS = 4e14
_WRITING_SHARE = {"cpu": 0.43, "gpu": 0.03}
_ENGINE_START_S = 40.0


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
    parameters = {c.weights_digest: c.parameters for c in plan.candidates}
    parts = [_job_s(job, measured, parameters, on_gpu) for job in evals]
    engines = len({job.engine_key for job in evals})
    known = [part for part in parts if part is not None]
    duration_s = sum(known) + engines * _ENGINE_START_S if len(known) == len(parts) else None
    builds = [c.parameters for c in plan.candidates if c.build and c.build.digest in left]
    return PlanCost(
        jobs_left=len(left),
        duration_s=duration_s,
        measured_share=sum(Protocol.of(j).digest in measured for j in evals) / max(1, len(evals)),
        on_gpu=on_gpu,
        build_bytes=sum(2 * p for p in builds if p) if all(builds) else None,
    )


def _measured(evals: list[EvalJob], settings: Settings) -> dict[str, float]:
    """Mean seconds of finished evaluations with the same protocol."""
    wanted = {Protocol.of(job).digest for job in evals}
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            return store.mean_durations(wanted)
    except MergeboardError:
        return {}


def _job_s(
    job: EvalJob, measured: Mapping[str, float], parameters: Mapping[str, int | None], on_gpu: bool
) -> float | None:
    """Seconds of one evaluation."""
    known = measured.get(Protocol.of(job).digest)
    if known is not None:
        return known
    size = parameters.get(job.weights_digest)
    if size is None:
        return None
    documents, output = _documents(job)
    read, written = _PROBE_TOKENS[output] if job.is_probe else _TOKENS[output]
    place = "gpu" if on_gpu else "cpu"
    speed = _GPU_FLOPS if on_gpu else _CPU_CORE_FLOPS * hardware().cpu_count
    return 2.0 * size * documents * (read + written / _WRITING_SHARE[place]) / speed


def _documents(job: EvalJob) -> tuple[int, OutputKind]:
    """How many documents a job asks about, and in which form."""
    if job.is_probe:
        probe = get_probe(job.benchmark)
        form = OutputKind.GENERATION if probe.form is Form.GENERATED else OutputKind.MULTIPLE_CHOICE
        return len(probe.items), form
    benchmark = load_suite(job.suite).benchmark(job.benchmark)
    return _documents_of(benchmark, job.settings.limit), benchmark.output


def _documents_of(benchmark: Benchmark, limit: int | None) -> int:
    counts = (subset.n_documents or _DOCUMENTS for subset in benchmark.subsets)
    return sum(min(count, limit) if limit else count for count in counts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
