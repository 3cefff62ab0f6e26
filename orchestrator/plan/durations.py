"""Seconds that jobs take: a model of the work, corrected by what has been measured."""

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

# Tokens of a typical document, what its prompt shares with others left out: read, written.
_TOKENS = {OutputKind.MULTIPLE_CHOICE: (260.0, 0.0), OutputKind.GENERATION: (350.0, 300.0)}
_PROBE_TOKENS = {OutputKind.MULTIPLE_CHOICE: (40.0, 0.0), OutputKind.GENERATION: (80.0, 40.0)}
_DOCUMENTS = 250
# Effective arithmetic, in floating-point operations per second: measured with SmolLM2-135M in bf16 on a CPU; for a GPU,
# 40 % of an H100's dense bf16 peak while reading. Writing is bound by memory, not arithmetic.
_CPU_CORE_FLOPS = 1.75e11
_GPU_FLOPS = 4e14
_WRITING_SHARE = {"cpu": 0.43, "gpu": 0.03}
# Measurements of one kind of job that count; older ones are forgotten.
_KEPT = 25
ENGINE_START_S = 40.0
"""Seconds that an engine takes to start, until one has been measured."""


class Expected(NamedTuple):
    """What a job is expected to take, its engine's start left out."""

    seconds: float | None
    """Null where nothing is known."""
    measured: bool
    """Whether it rests on jobs like it that have ended, not on a model alone."""


class Workload(NamedTuple):
    """What decides how long a job takes. A tuple, since runs count tens of thousands of them."""

    suite: str = ""
    benchmark: str = "build"
    limit: int | None = None
    parameters: int | None = None
    """Of what runs, repeated layers counted; null where unknown."""
    engine: EngineKind | None = None
    """Null for a build."""
    tensor_parallel: int = 1


class _Class(NamedTuple):
    """Workloads for which the model is wrong by the same factor."""

    suite: str
    benchmark: str
    engine: EngineKind | None
    sized: bool
    """Whether the model knows their size; else a job is one unit."""
    writes: bool
    """Whether answers are generated."""


class Durations:
    """Seconds that jobs take: a model of the work, corrected by what the store and this run have measured.

    Jobs of one benchmark differ by the size of what runs, which the model knows; what the model gets wrong is the same factor
    for all of them, and that is what is measured. A benchmark that has not been measured is corrected as those are that have been;
    a checkpoint of unknown size takes what others took.
    """

    def __init__(
        self,
        parameters: Mapping[tuple[str, tuple[int, ...] | None], int | None],
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
        """What decides how long a job takes."""
        if isinstance(job, BuildJob):
            return Workload()
        return Workload(
            suite=job.suite,
            benchmark=job.benchmark,
            limit=job.settings.limit,
            parameters=self._parameters.get((job.weights_digest, job.layer_path)),
            engine=job.engine.kind,
            tensor_parallel=job.engine.tensor_parallel,
        )

    def seconds(self, job: BuildJob | EvalJob) -> float | None:
        """Expected seconds of a job, its engine's start left out; null where nothing is known."""
        return self.expected(self.workload(job)).seconds

    def expected(self, workload: Workload) -> Expected:
        """Expected seconds of a workload, and whether they rest on measurements."""
        kind, units = self._size(workload)
        factor = self._factors.get(kind)
        if factor is not None:
            return Expected(factor * units, measured=True)
        if not kind.sized:
            others = self._seconds.get(kind[:3])
            return Expected(robust_mean(others) if others else None, measured=others is not None)
        alike = self._alike.get((kind.engine, kind.writes))
        factor = alike or self._alike.get((kind.engine, not kind.writes), 1.0)
        return Expected(factor * units, measured=alike is not None)

    def learn(self, workload: Workload, duration_s: float) -> None:
        """Take a measured duration in."""
        kind, units = self._size(workload)
        if duration_s <= 0 or units <= 0:
            return
        ratios = self._ratios.setdefault(kind, deque(maxlen=_KEPT))
        ratios.append(duration_s / units)
        self._factors[kind] = robust_mean(ratios)
        self._seconds.setdefault(kind[:3], deque(maxlen=_KEPT)).append(duration_s)
        if kind.sized:
            alike = [
                k for k in self._factors if k.sized and (k.engine, k.writes) == (kind.engine, kind.writes)
            ]
            self._alike[kind.engine, kind.writes] = robust_mean([self._factors[k] for k in alike])

    def start_s(self, job: EvalJob) -> float:
        """Expected seconds until the job's engine has started."""
        return self._starts.expected_s(job.engine) or ENGINE_START_S

    def learn_start(self, job: EvalJob, seconds: float) -> None:
        """Take the measured start of a job's engine in."""
        self._starts.learn(job.engine, seconds)

    def _size(self, workload: Workload) -> tuple[_Class, float]:
        """The class of a workload and its size: seconds by the model, or 1 where that knows nothing."""
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
        return unsized, 1.0  # a suite or probe of an earlier version, out of the store
    return unsized._replace(sized=True, writes=writes), seconds


def work_s(workload: Workload, *, on_gpu: bool) -> float:
    """Seconds of an evaluation by arithmetic alone, on as many GPUs, or on this machine's cores.

    Raises SuiteError or ProbeError for a benchmark that is not known here.
    """
    documents, read, written = _work(workload.suite, workload.benchmark, workload.limit)
    place = "gpu" if on_gpu else "cpu"
    speed = _GPU_FLOPS * workload.tensor_parallel if on_gpu else _CPU_CORE_FLOPS * hardware().cpu_count
    return 2.0 * (workload.parameters or 0) * documents * (read + written / _WRITING_SHARE[place]) / speed


@lru_cache(maxsize=1024)
def _work(suite: str, benchmark: str, limit: int | None) -> tuple[int, float, float]:
    """Documents of a benchmark or probe, and the tokens read and written for each."""
    if suite == PROBE_SUITE:
        probe = get_probe(benchmark)
        form = OutputKind.GENERATION if probe.form is Form.GENERATED else OutputKind.MULTIPLE_CHOICE
        return len(probe.items), *_PROBE_TOKENS[form]
    wanted = load_suite(suite).benchmark(benchmark)
    counts = (subset.n_documents or _DOCUMENTS for subset in wanted.subsets)
    return sum(min(count, limit) if limit else count for count in counts), *_TOKENS[wanted.output]
