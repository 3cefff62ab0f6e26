"""Expected job durations: an arithmetic model of the work, corrected by measurements."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from evals.engine import EngineKind
from evals.errors import EvaluationError
from evals.probes import Form, get_probe
from evals.scores import PROBE_SUITE
from evals.suite import OutputKind, load_suite
from orchestrator.plan.engine_starts import EngineStarts
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.remaining import robust_mean
from orchestrator.provenance import hardware
from recipes.layer_visit import Layers

# Tokens (read, written) of a typical document, without the prompt prefix that it shares with others.
_TOKENS = {
    OutputKind.MULTIPLE_CHOICE: (260.0, 0.0),
    OutputKind.GENERATION: (350.0, 300.0),
    OutputKind.LOGLIKELIHOOD: (100.0, 0.0),
    OutputKind.PERPLEXITY: (1500.0, 0.0),
}
_PROBE_TOKENS = {OutputKind.MULTIPLE_CHOICE: (40.0, 0.0), OutputKind.GENERATION: (80.0, 40.0)}
_DOCUMENTS = 250
# Effective FLOP/s: measured with SmolLM2-135M in bf16 on a CPU; for a GPU, 40 % of an H100's dense bf16
# peak in prefill. Decoding is bound by memory bandwidth, not arithmetic.
_CPU_CORE_FLOPS = 1.75e11
_GPU_FLOPS = 4e14
_WRITING_SHARE = {"cpu": 0.43, "gpu": 0.03}
# Number of latest measurements of one class of job that are used.
_KEPT = 25
ENGINE_START_S = 40.0
"""Default engine start time in seconds, used until a start has been measured."""


class Expected(NamedTuple):
    """Expected duration of a job, without its engine's start."""

    seconds: float | None
    """None if nothing is known."""
    measured: bool
    """Whether it is based on completed jobs, not on the model alone."""


class Workload(NamedTuple):
    """Properties that determine a job's duration. A tuple for speed: runs have tens of thousands of jobs."""

    suite: str = ""
    benchmark: str = "build"
    limit: int | None = None
    parameters: int | None = None
    """Number of parameters, counting repeated layers; None if unknown."""
    engine: EngineKind | None = None
    """None for a build."""
    tensor_parallel: int = 1
    share: float = 1.0
    """Share of the documents that is asked: less than 1 for a part of a race."""


class _Class(NamedTuple):
    """Workloads that share one correction factor of the model."""

    suite: str
    benchmark: str
    engine: EngineKind | None
    sized: bool
    """Whether the model can compute their size; otherwise each job is one unit."""
    writes: bool
    """Whether answers are generated."""


class Durations:
    """Expected job durations: a model of the work, corrected by measurements of the store and of this run.

    The model accounts for the checkpoint's size; its error is one factor per benchmark, which is measured.
    A benchmark without measurements takes the mean factor of the measured ones; a checkpoint of unknown size
    takes the mean duration of the other checkpoints.
    """

    def __init__(
        self,
        parameters: Mapping[tuple[str, Layers | None], int | None],
        *,
        on_gpu: bool,
        starts: EngineStarts | None = None,
    ) -> None:
        self._starts = starts or EngineStarts()
        self._parameters = parameters
        self._on_gpu = on_gpu
        self._ratios: dict[_Class, deque[float]] = {}
        self._factors: dict[_Class, float] = {}
        self._alike: dict[tuple[EngineKind | None, bool], float] = {}
        self._seconds: dict[tuple[str, str, EngineKind | None], deque[float]] = {}
        self._sizes: dict[Workload, tuple[_Class, float]] = {}

    def workload(self, job: BuildJob | EvalJob) -> Workload:
        """The properties that determine a job's duration."""
        if isinstance(job, BuildJob):
            return Workload()
        return Workload(
            suite=job.suite,
            benchmark=job.benchmark,
            limit=job.settings.limit,
            parameters=self._parameters.get((job.weights_digest, job.layer_path)),
            engine=job.engine.kind,
            tensor_parallel=job.engine.tensor_parallel,
            share=share_asked(job),
        )

    def seconds(self, job: BuildJob | EvalJob) -> float | None:
        """Expected seconds of a job without its engine's start; None if nothing is known."""
        return self.expected(self.workload(job)).seconds

    def expected(self, workload: Workload) -> Expected:
        """Expected seconds of a workload, and whether they are based on measurements."""
        kind, units = self._size(workload)
        factor = self._factors.get(kind)
        if factor is not None:
            return Expected(factor * units, measured=True)
        if not kind.sized:
            seconds = self._seconds.get(kind[:3])
            return Expected(robust_mean(seconds) if seconds else None, measured=seconds is not None)
        group_factor = self._alike.get((kind.engine, kind.writes))
        factor = group_factor or self._alike.get((kind.engine, not kind.writes), 1.0)
        return Expected(factor * units, measured=group_factor is not None)

    def learn(self, workload: Workload, duration_s: float) -> None:
        """Record a measured duration in seconds."""
        kind, units = self._size(workload)
        if duration_s <= 0 or units <= 0:
            return
        ratios = self._ratios.setdefault(kind, deque(maxlen=_KEPT))
        ratios.append(duration_s / units)
        self._factors[kind] = robust_mean(ratios)
        self._seconds.setdefault(kind[:3], deque(maxlen=_KEPT)).append(duration_s)
        if kind.sized:
            same_group = [
                k for k in self._factors if k.sized and (k.engine, k.writes) == (kind.engine, kind.writes)
            ]
            self._alike[kind.engine, kind.writes] = robust_mean([self._factors[k] for k in same_group])

    def start_s(self, job: EvalJob) -> float:
        """Expected seconds until the job's engine has started."""
        return self._starts.expected_s(job.engine) or ENGINE_START_S

    def learn_start(self, job: EvalJob, seconds: float) -> None:
        """Record the measured start time of a job's engine in seconds."""
        self._starts.learn(job.engine, seconds)

    def _size(self, workload: Workload) -> tuple[_Class, float]:
        """Class and size of a workload: seconds by the model, or 1 if the model does not apply."""
        size = self._sizes.get(workload)
        if size is None:
            size = self._sizes[workload] = _size_of(workload, on_gpu=self._on_gpu)
        return size


def _size_of(workload: Workload, *, on_gpu: bool) -> tuple[_Class, float]:
    unsized = _Class(workload.suite, workload.benchmark, workload.engine, sized=False, writes=False)
    if workload.parameters is None or workload.engine is None:
        return unsized, 1.0
    try:
        seconds = work_s(workload, on_gpu=on_gpu)
        writes = _work(workload.suite, workload.benchmark, workload.limit)[2] > 0
    except EvaluationError:
        return unsized, 1.0  # a suite or probe of an earlier version, from the store
    return unsized._replace(sized=True, writes=writes), seconds


def share_asked(job: EvalJob) -> float:
    """Share of the documents that a job asks at most: less than 1 for a part of a race."""
    if job.decide is None:
        return 1.0
    if job.decide.part is not None:
        return job.decide.part
    whole = documents_of(job.suite, job.benchmark, job.settings.limit)
    return 1.0 if job.decide.items is None or not whole else len(job.decide.items) / whole


def work_s(workload: Workload, *, on_gpu: bool) -> float:
    """Seconds of an evaluation by the model alone, on its tensor-parallel GPUs or on this machine's cores.

    Raises SuiteError or ProbeError for an unknown benchmark.
    """
    whole, read, written = _work(workload.suite, workload.benchmark, workload.limit)
    documents = whole * workload.share
    place = "gpu" if on_gpu else "cpu"
    speed = _GPU_FLOPS * workload.tensor_parallel if on_gpu else _CPU_CORE_FLOPS * hardware().cpu_count
    return 2.0 * (workload.parameters or 0) * documents * (read + written / _WRITING_SHARE[place]) / speed


def documents_of(suite: str, benchmark: str, limit: int | None) -> int | None:
    """Number of documents of a benchmark or items of a probe; None for one that is not known."""
    try:
        return _work(suite, benchmark, limit)[0]
    except EvaluationError:
        return None


@lru_cache(maxsize=1024)
def _work(suite: str, benchmark: str, limit: int | None) -> tuple[int, float, float]:
    """Number of documents of a benchmark or probe, and the tokens read and written per document."""
    if suite == PROBE_SUITE:
        probe = get_probe(benchmark)
        form = OutputKind.GENERATION if probe.form is Form.GENERATED else OutputKind.MULTIPLE_CHOICE
        return len(probe.items), *_PROBE_TOKENS[form]
    definition = load_suite(suite).benchmark(benchmark)
    counts = (subset.n_documents or _DOCUMENTS for subset in definition.subsets)
    documents = sum(min(count, limit) if limit else count for count in counts)
    read, written = _TOKENS[definition.output]
    repeats = definition.overrides.get("repeats", 1)
    return documents, read, written * (repeats if isinstance(repeats, int) else 1)
