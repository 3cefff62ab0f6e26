"""Jobs that only take time: their durations, their bound on a cluster, and the engine that sleeps through them.

Kept apart from `benchmarks.cluster`, so that an engine's process imports no more than it needs.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from evals.engine import EngineKind, EngineSpec
from evals.scores import BenchmarkScore, ChatTemplate, EvalSettings, Evaluation, Score
from orchestrator.plan.durations import Durations, Expected, Workload
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob, Task
from orchestrator.provenance import Hardware
from orchestrator.store.records import EvalOutcome

SIZES = ((1, 0.50), (2, 0.30), (4, 0.15), (8, 0.05))
MEAN_S = 2.0
SIGMA = 1.0
SETTINGS = EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False, limit=None)
START_S = 3.0


def evaluation_of(task: Task) -> EvalJob:
    """The job of a task; simulated ones are evaluations all."""
    assert isinstance(task.job, EvalJob)
    return task.job


class SleepingHost:
    """Takes the place of an engine: sleeps as long as the job's name says, and answers with a score."""

    def __init__(self, context: object) -> None:
        self._hardware = Hardware(host=os.uname().nodename, cpu="simulated", cpu_count=1, memory_bytes=1)

    def run(self, tasks: Sequence[Task]) -> tuple[EvalOutcome, ...]:
        """Sleep through a batch."""
        return tuple(self._one(evaluation_of(task)) for task in tasks)

    def help(self, task: Task, seconds: float) -> bool:
        """A sleep is not shared."""
        return False

    def close(self) -> None:
        """Nothing to free."""

    def _one(self, job: EvalJob) -> EvalOutcome:
        time.sleep(duration_of(job))
        return self.answer(job, duration_of(job))

    def answer(self, job: EvalJob, slept_s: float) -> EvalOutcome:
        """A score, whatever the job."""
        ended = datetime.now(UTC)
        score = Score(
            benchmark=job.benchmark, subset="all", metric="acc", value=0.5, stderr=0.01, n=100, n_full=100,
            lower_bound=0.25, task_version="1",
        )  # fmt: skip
        result = BenchmarkScore(
            benchmark=job.benchmark, title=job.benchmark, metric="acc", raw=0.5, normalized=50.0, n=100,
            partial=False, comparable_to_board=False,
        )  # fmt: skip
        evaluation = Evaluation(
            suite=job.suite, benchmark_digest=job.benchmark_digest, engine=job.engine, settings=job.settings,
            scores=(score,), result=result, n_requests=100, n_replayed=0, duration_s=slept_s,
        )  # fmt: skip
        return EvalOutcome(
            evaluation=evaluation, samples_path=f"samples/{job.digest}.parquet", samples_sha256="0" * 64,
            hardware=self._hardware, started_at=ended - timedelta(seconds=slept_s), ended_at=ended,
        )  # fmt: skip


def duration_of(job: BuildJob | EvalJob) -> float:
    """Seconds that a job sleeps, as its name says."""
    assert isinstance(job, EvalJob)
    return int(job.benchmark.split("-")[1]) / 1000


class RoughlyKnown(Durations):
    """Estimates as a scheduler has them: the true durations with an error of about 30 %."""

    def __init__(self, seed: int) -> None:
        super().__init__({}, on_gpu=True)
        self._seed = seed
        self._known: dict[str, float] = {}

    def seconds(self, job: BuildJob | EvalJob) -> float | None:
        """Roughly what the job takes; always the same."""
        known = self._known.get(job.digest)
        if known is None:
            error = random.Random(f"{self._seed} {job.digest}").gauss(0.0, 0.3)
            known = self._known[job.digest] = duration_of(job) * math.exp(error)
        return known

    def expected(self, workload: Workload) -> Expected:
        """Of a job's properties alone nothing is known."""
        return Expected(None, False)

    def learn(self, workload: Workload, duration_s: float) -> None:
        """The benchmark's estimates stay as they are."""


def jobs_of(count: int, seed: int, scale: float, sizes: Sequence[tuple[int, float]] = SIZES) -> list[EvalJob]:
    """Jobs of a fixed seed: exactly the given shares of sizes, lognormal durations."""
    chance = random.Random(seed)
    gpus = [size for size, share in sizes for _ in range(round(share * count))]
    chance.shuffle(gpus)
    mu = math.log(MEAN_S) - SIGMA**2 / 2
    made = []
    for number, size in enumerate(gpus):
        milliseconds = max(1, round(1000 * scale * chance.lognormvariate(mu, SIGMA)))
        made.append(
            EvalJob(
                weights_digest="b" * 16,
                suite="simulated",
                benchmark=f"job{number}-{milliseconds}",
                benchmark_digest="d" * 16,
                dataset_digest="d" * 16,
                engine=EngineSpec(kind=EngineKind.VLLM, version="0", tensor_parallel=size),
                settings=SETTINGS,
                scorer="none",
                place=CheckpointPlace(name=f"simulated/{size}"),
            )
        )
    return made


def bound_s(jobs: Sequence[EvalJob], nodes: Sequence[int]) -> float:
    """No schedule is shorter: all work over all GPUs; the work of large jobs over the places that hold them; the longest job."""
    bounds = [sum(duration_of(j) * j.engine.tensor_parallel for j in jobs) / sum(nodes)]
    for size in {j.engine.tensor_parallel for j in jobs}:
        places = sum(gpus // size for gpus in nodes)
        bounds.append(sum(duration_of(j) for j in jobs if j.engine.tensor_parallel >= size) / places)
    return max(*bounds, *(duration_of(job) for job in jobs))
