"""Seconds of a built layer path with an engine of its own and with a shared engine.

    python -m benchmarks.shared_engines CHECKPOINT [--engine vllm] [--paths 6]

Both sides are jobs of real plans with `materialize: true`, run one after another in this process without Ray: a plan for each path,
and one plan for all. Builds, engine starts, loaded weights and one scored probe are timed. CPU seconds depend little on what else
the machine does, wall seconds do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from evals.scores import PROBE_SUITE
from orchestrator.plan.job import BuildJob, EvalJob, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import EvalOutcome
from orchestrator.worker.worker import EngineHost, run_build

PROBE = "reasoning-easy-scored-search"


def plan_of(checkpoint: str, paths: list[str], engine: str, dtype: str) -> Plan:
    """These paths, built, and nothing else."""
    values = {
        "name": "s",
        "base": checkpoint,
        "recipes": [{"layer_path": path} for path in paths],
        "suites": [{"suite": PROBE_SUITE, "benchmarks": [PROBE]}],
        "engines": [{"kind": engine, "dtype": dtype}],
        "materialize": True,
        "score_base": False,
    }
    file = parse_sweep(json.dumps(values).encode(), origin="s.yaml", folder=Path.cwd())
    return make_plan(file, Settings.from_environment())


def run(plans: list[Plan], home: Path) -> tuple[float, float, list[str]]:
    """CPU and wall seconds of all jobs, and the values of the evaluations."""
    context = WorkerContext(home=str(home), datasets=None)
    host = EngineHost(context)
    begun, cpu = time.monotonic(), time.process_time()
    values = []
    for number, plan in enumerate(plans):
        for digest, job in plan.jobs.items():
            if isinstance(job, BuildJob):
                run_build(context, f"b-{number}-{digest}", job)
                continue
            assert isinstance(job, EvalJob)
            (outcome,) = host.run([Task(attempt_id=f"a-{number}-{digest}", job=job)])
            assert isinstance(outcome, EvalOutcome), outcome
            values.append(str(outcome.evaluation.scores))
    host.close()
    return time.process_time() - cpu, time.monotonic() - begun, values


def main() -> None:
    """Run both sides and print a row of the table in docs/families.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--engine", default="vllm", choices=["vllm", "transformers"])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--paths", type=int, default=6)
    options = parser.parse_args()
    paths = [f"({i}, {i + 1})" for i in range(options.paths)]
    shared = plan_of(options.checkpoint, paths, options.engine, options.dtype)
    alone = [plan_of(options.checkpoint, [path], options.engine, options.dtype) for path in paths]
    # The first engine start of a process imports the engine; it belongs to neither side.
    with tempfile.TemporaryDirectory() as folder:
        run(alone[:1], Path(folder))
    cells = []
    results = []
    for plans in (alone, [shared]):
        with tempfile.TemporaryDirectory() as folder:
            cpu, wall, values = run(plans, Path(folder))
        starts = len({planned.job.engine_key for plan in plans for planned in plan.evals})
        cells += [str(starts), f"{cpu / len(paths):.1f}", f"{wall / len(paths):.1f}"]
        results.append(values)
    assert results[0] == results[1], "the scores differ"
    print(f"| {Path(options.checkpoint).name}, {options.engine}, {len(paths)} paths | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
