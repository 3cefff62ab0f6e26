"""How well the scheduler and the executor use a cluster: three simulated Ray nodes with 16 GPUs, and engines that sleep.

    python -m benchmarks.cluster [packing] [scaling] [planning] [--jobs 2000] [--scale 1.0] [--seed 1]

The scheduler, the executor, the store (SQLite, every outcome synced to disk) and Ray are the real ones; only what an engine
does is replaced. Durations are lognormal with a mean of 2 s; the scheduler is told each with an error of about 30 %, as
an estimate would have it. `--scale` makes all jobs longer or shorter. Results go to docs/benchmarks-cluster.md by hand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from evals.engine import EngineKind, EngineSpec
from evals.scores import BenchmarkScore, ChatTemplate, EvalSettings, Evaluation, Score
from orchestrator.candidates import Candidate
from orchestrator.cluster import ClusterFacts, NodeFacts
from orchestrator.executors import Finished, RayExecutor, cluster_facts
from orchestrator.executors.engines import LiveEngine
from orchestrator.executors.floor import Spot
from orchestrator.frontier import NodeState
from orchestrator.jobs import BuildJob, CheckpointPlace, EvalJob, Task
from orchestrator.plan import Plan, PlannedEval, make_plan
from orchestrator.progress import RunProgress
from orchestrator.provenance import Hardware
from orchestrator.records import EvalOutcome
from orchestrator.runs import register
from orchestrator.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.sweep import Sweep, parse_sweep

SIZES = ((1, 0.50), (2, 0.30), (4, 0.15), (8, 0.05))
MEAN_S = 2.0
SIGMA = 1.0
SETTINGS = EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False, limit=None)
START_S = 3.0


class SleepingHost:
    """Takes the place of an engine: sleeps as long as the job's name says, and answers with a score."""

    def __init__(self, context: object) -> None:
        self._hardware = Hardware(host=os.uname().nodename, cpu="simulated", cpu_count=1, memory_bytes=1)

    def run(self, tasks: Sequence[Task]) -> tuple[EvalOutcome, ...]:
        """Sleep through a batch."""
        return tuple(self._one(task.job) for task in tasks)  # type: ignore[arg-type] # evaluations all

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


class RoughlyKnown:
    """Estimates as a scheduler has them: the true durations with an error of about 30 %."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def seconds(self, job: BuildJob | EvalJob) -> float | None:
        """Roughly what the job takes."""
        error = random.Random(f"{self._seed} {job.digest}").gauss(0.0, 0.3)
        return duration_of(job) * math.exp(error)

    def learn(self, job: BuildJob | EvalJob, duration_s: float) -> None:
        """The benchmark's estimates stay as they are."""


class VirtualEngine(LiveEngine):
    """An engine whose jobs end on a clock that is only turned on."""

    def __init__(self, key: str, spot: Spot, clock: Clock) -> None:
        super().__init__(key, spot, None, None)
        self._clock = clock
        self._free_at = clock.now + START_S

    def run(self, tasks: tuple[Any, ...]) -> Any:
        """When the batch will be done, as the reference that is waited for."""
        self.busy = True
        self._free_at = max(self._free_at, self._clock.now) + sum(duration_of(task.job) for task in tasks)
        return (self._free_at, self.id)

    def close(self) -> Any:
        """Closed at once."""
        return ("closed", self.id)

    def is_closed(self) -> bool:
        """At once."""
        return True

    def end(self) -> None:
        """Nothing to end."""


class Clock:
    """Time as far as the simulation has come."""

    now = 0.0


class VirtualExecutor(RayExecutor):
    """The executor's own decisions about where and when, without Ray: what a schedule is worth, whatever else the machine does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.clock = Clock()
        self._answers = SleepingHost(None)

    def wait(self, timeout_s: float) -> list[Finished]:
        """The next batch to end."""
        for engine in self._engines:
            engine.busy = engine.busy and any(place is engine for _, place in self._running.values())
        if not self._running:
            return []
        reference = min(self._running)
        tasks, place = self._running.pop(reference)
        assert isinstance(place, LiveEngine)
        self.clock.now = reference[0]
        place.busy = False
        if place.draining:
            self._retire(place)
        answers = [self._answers.answer(task.job, 0.0) for task in tasks]  # type: ignore[arg-type] # evaluations all
        return [
            Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)
            for task, outcome in zip(tasks, answers, strict=True)
        ]

    def _look_around(self) -> None:
        """Nodes neither come nor go."""

    def _start(self, key: str, spot: Spot) -> LiveEngine | None:
        return VirtualEngine(key, spot, self.clock)


class Quiet:
    """A reporter that prints a line every half minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def update(self, progress: RunProgress) -> None:
        """Called twice a second."""
        if time.monotonic() - self._last > 30:
            self._last = time.monotonic()
            done = progress.counts[NodeState.DONE]
            print(f"  {progress.elapsed_s:6.0f} s: {done} done, {len(progress.running)} running", flush=True)


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


def add_node(cluster: Cluster, **options: Any) -> Any:
    """A node; on a busy machine Ray's own half minute may be too short the first time."""
    for attempt in range(6):
        try:
            return cluster.add_node(**options)
        except Exception as error:
            if "timed out during startup" not in str(error) or attempt == 5:
                raise
    return None


class Simulated:
    """Ray nodes of this machine with GPUs that are not there."""

    def __init__(self, nodes: Sequence[int]) -> None:
        common = {"object_store_memory": 80_000_000}
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, **common},
        )
        for gpus in nodes:
            add_node(self.cluster, num_cpus=2 * gpus, num_gpus=gpus, **common)
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")
        self.facts: ClusterFacts = cluster_facts()

    def close(self) -> None:
        """End all nodes."""
        ray.shutdown()
        self.cluster.shutdown()


def run(
    jobs: Sequence[EvalJob], facts: ClusterFacts, home: Path, seed: int, kind: type = RayExecutor
) -> tuple[float, float]:
    """Seconds from the first look at the plan to the end of the run, and the driver's own CPU time per job in ms."""
    settings = Settings(
        home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    base = Candidate(name="base", is_base=True, place=CheckpointPlace(name="x"), weights_digest="b" * 16)
    plan = Plan(
        sweep=Sweep.model_validate({"name": f"simulated {len(jobs)}", "base": "x", "suites": ["simulated"]}),
        text="",
        folder=str(home),
        candidates=(base,),
        evals=tuple(PlannedEval(candidate="base", job=job) for job in jobs),
    )
    known = RoughlyKnown(seed)
    # The base's jobs come first as they are; here all are the base's, and the longest are to come first.
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
        scheduler = Scheduler(
            store, plan, run_id=run_id, settings=settings, reporter=Quiet(), durations=known  # type: ignore[arg-type] # same methods
        )  # fmt: skip
        scheduler._ranked = lambda: sorted(
            scheduler._jobs, key=lambda d: -(known.seconds(scheduler._jobs[d]) or 0)
        )  # type: ignore[method-assign]
        executor = kind(settings, facts, seconds=known.seconds, host=SleepingHost, start_s=START_S)
        begun, cpu = time.perf_counter(), time.process_time()
        summary = scheduler.run(executor)
        own_ms = 1000 * (time.process_time() - cpu) / len(jobs)
        taken = time.perf_counter() - begun
    assert summary.done == len(jobs), summary
    assert not summary.failed
    return executor.clock.now if isinstance(executor, VirtualExecutor) else taken, own_ms


def packing(count: int, seed: int, scale: float, folder: Path) -> dict[str, float]:
    """Mixed sizes on three nodes against the bound."""
    nodes = (8, 4, 4)
    jobs = jobs_of(count, seed, scale)
    simulated = Simulated(nodes)
    try:
        taken, own_ms = run(jobs, simulated.facts, folder, seed)
    finally:
        simulated.close()
    bound = bound_s(jobs, nodes)
    return {
        "jobs": len(jobs),
        "bound_s": bound,
        "taken_s": taken,
        "share_of_bound": bound / taken,
        "driver_cpu_ms_per_job": own_ms,
    }


def scaling(count: int, seed: int, scale: float, folder: Path) -> dict[str, float]:
    """The same one-GPU jobs on 2 and on 16 GPUs."""
    found = {}
    for gpus, nodes in ((2, (2,)), (16, (8, 4, 4))):
        simulated = Simulated(nodes)
        try:
            home = folder / str(gpus)
            home.mkdir()
            found[gpus], _ = run(jobs_of(count, seed, scale, ((1, 1.0),)), simulated.facts, home, seed)
        finally:
            simulated.close()
    return {"jobs": count, "on_2_s": found[2], "on_16_s": found[16], "efficiency": found[2] / found[16] / 8}


def nodes_of(gpus: Sequence[int]) -> ClusterFacts:
    """Nodes that are not there."""
    return ClusterFacts(
        nodes=tuple(
            NodeFacts(node_id=f"node-{n}", host=f"node-{n}", cpus=2 * g, gpus=g, memory_bytes=2**36)
            for n, g in enumerate(gpus)
        )
    )


def policy(count: int, seed: int, scale: float, folder: Path) -> dict[str, float]:
    """As packing and scaling, but on a clock of its own: the schedule alone, engine starts of 3 s included."""
    nodes = (8, 4, 4)
    jobs = jobs_of(count, seed, scale)
    taken, own_ms = run(jobs, nodes_of(nodes), folder, seed, VirtualExecutor)
    bound = bound_s(jobs, nodes)
    found = {"jobs": len(jobs), "bound_s": bound, "taken_s": taken, "share_of_bound": bound / taken}
    single = jobs_of(count, seed, scale, ((1, 1.0),))
    for name, gpus in (("on_2_s", (2,)), ("on_16_s", nodes)):
        home = folder / name
        home.mkdir()
        found[name], _ = run(single, nodes_of(gpus), home, seed, VirtualExecutor)
    return {
        **found,
        "efficiency_2_to_16": found["on_2_s"] / found["on_16_s"] / 8,
        "driver_cpu_ms_per_job": own_ms,
    }


def planning(folder: Path) -> dict[str, float]:
    """Planning and writing down all (i, j) of 80 layers."""
    from tests.tiny import tiny_checkpoint

    base = tiny_checkpoint(folder / "base", layers=80)
    text = f"name: grid\nbase: {base}\nrecipes: [{{grid: all}}]\nsuites: [{{suite: smoke, benchmarks: [bbh]}}]\nengines: [transformers]\n"
    settings = Settings(
        home=folder, database_url=f"sqlite:///{folder}/s.sqlite", datasets=None, ray_address=None
    )
    file = parse_sweep(text.encode(), origin="grid", folder=folder)
    with Store.open(settings.database_url) as store:
        begun, cpu = time.perf_counter(), time.process_time()
        plan = make_plan(file, settings)
        planned = time.perf_counter()
        register(store, plan)
        written = time.perf_counter()
        cpu = time.process_time() - cpu
    return {
        "paths": len(plan.candidates),
        "jobs": len(plan.jobs),
        "plan_s": planned - begun,
        "submit_s": written - planned,
        "total_s": written - begun,
        "cpu_s": cpu,
    }


def main() -> None:
    """Run what is asked for and print bound and result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["planning", "policy", "packing", "scaling"])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for what in given.what:
        folder = Path(tempfile.mkdtemp(prefix="mergeboard-cluster-"))
        load = os.getloadavg()[0]
        try:
            if what == "planning":
                figures = planning(folder)
            else:
                figures = {"packing": packing, "scaling": scaling, "policy": policy}[what](
                    given.jobs, given.seed, given.scale, folder
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        rounded = {name: round(value, 3) for name, value in figures.items()}
        print(
            json.dumps(
                {
                    "what": what,
                    "seed": given.seed,
                    "scale": given.scale,
                    "load_before": round(load, 1),
                    **rounded,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
