"""How well the scheduler and the executor use a cluster: three simulated Ray nodes with 16 GPUs, and engines that sleep.

    python -m benchmarks.cluster [packing] [scaling] [planning] [--jobs 2000] [--scale 1.0] [--seed 1]

The scheduler, the executor, the store (SQLite, every outcome synced to disk) and Ray are the real ones; only what an engine
does is replaced. Durations are lognormal with a mean of 2 s; the scheduler is told each with an error of about 30 %, as
an estimate would have it. `--scale` makes all jobs longer or shorter. Results go to docs/benchmarks-cluster.md by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from benchmarks.ray_nodes import add_node, new_cluster
from benchmarks.simulated_jobs import START_S, RoughlyKnown, SleepingHost, bound_s, jobs_of
from benchmarks.virtual_clock import VirtualExecutor
from orchestrator.cluster import RayExecutor, cluster_facts
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.job import CheckpointPlace, EvalJob
from orchestrator.plan.plan import Plan, PlannedEval, make_plan
from orchestrator.plan.sweep import Sweep, parse_sweep
from orchestrator.run.job_state import NodeState
from orchestrator.run.progress import RunProgress
from orchestrator.run.run import register
from orchestrator.run.scheduler import Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store


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


class LongestFirst(Scheduler):
    """The base's jobs come first as they are; here all are the base's, and the longest are to come first."""

    def _in_order(self) -> list[str]:
        seconds = self._durations.seconds
        return sorted(self._jobs, key=lambda digest: -(seconds(self._jobs.job(digest)) or 0))


class Simulated:
    """Ray nodes of this machine with GPUs that are not there."""

    def __init__(self, nodes: Sequence[int]) -> None:
        self.cluster = new_cluster()
        for gpus in nodes:
            add_node(self.cluster, num_cpus=2 * gpus, num_gpus=gpus)
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
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
        scheduler = LongestFirst(
            store, plan, run_id=run_id, settings=settings, reporter=Quiet(), durations=known
        )
        executor = kind(
            settings, facts, seconds=known.seconds, host=SleepingHost, start_s=lambda job: START_S
        )
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
    """The same one-GPU jobs on 16 and on 2 GPUs; also against the best that 2 GPUs could do, which no noise makes longer."""
    found, bounds = {}, {}
    for gpus, nodes in ((16, (8, 4, 4)), (2, (2,))):
        simulated = Simulated(nodes)
        try:
            home = folder / str(gpus)
            home.mkdir()
            jobs = jobs_of(count, seed, scale, ((1, 1.0),))
            found[gpus], _ = run(jobs, simulated.facts, home, seed)
        finally:
            simulated.close()
        bounds[gpus] = bound_s(jobs, nodes)
        print(f"  {gpus} GPUs: bound {bounds[gpus]:.1f} s, taken {found[gpus]:.1f} s", flush=True)
    return {
        "jobs": count,
        "on_2_s": found[2],
        "on_16_s": found[16],
        "efficiency": found[2] / found[16] / 8,
        "efficiency_at_least": bounds[2] / found[16] / 8,
    }


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
    from tests.support.tiny_checkpoints import tiny_checkpoint

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
