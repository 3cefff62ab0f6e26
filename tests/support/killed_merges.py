"""Engines that are killed in the middle of a live merge: `python -m tests.support.killed_merges FOLDER HOME TRIALS`.

This process loads the libraries and forks an engine for every trial. The engine tells each tensor that it takes; it is killed at a
random one. An engine on the same home then runs the job again. Prints what was measured as JSON lines.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from unittest.mock import patch

import torch

from evals.samples import read_samples
from orchestrator.plan.job import EvalJob, LiveMerge, Task
from orchestrator.settings import WorkerContext
from orchestrator.store.records import EvalOutcome
from orchestrator.worker.inputs import Inputs
from orchestrator.worker.worker import EngineHost
from recipes.merge import MergedWeights


class _Told:
    """Where an engine that will be killed tells its tensors."""

    pipe: int | None = None


class _ToldWeights(MergedWeights):
    """A merge that tells each tensor."""

    def tensors(self) -> Generator[tuple[str, torch.Tensor], None, None]:
        for named in super().tensors():
            yield named
            if _Told.pipe is not None:
                os.write(_Told.pipe, b".")


def run_jobs(jobs: list[EvalJob], home: Path) -> list[str]:
    """What the jobs measured, one after another on one engine, as JSON."""
    host = EngineHost(WorkerContext(home=str(home), datasets=None))
    measured = []
    for job in jobs:
        (outcome,) = host.run([Task(attempt_id=f"{os.getpid()}-{job.digest}", job=job)])
        assert isinstance(outcome, EvalOutcome), outcome
        samples = [sample.model_dump(mode="json") for sample in read_samples(home / outcome.samples_path)]
        scores = [score.model_dump(mode="json") for score in outcome.evaluation.scores]
        measured.append(json.dumps([job.digest, scores, samples]))
    host.close()
    return measured


def _fork(jobs: list[EvalJob], home: Path, told: int | None, out: int) -> int:
    """An engine in a process of its own, which writes what it measured to `out`."""
    child = os.fork()
    if child == 0:
        _Told.pipe = told
        try:
            for line in run_jobs(jobs, home):
                os.write(out, line.encode() + b"\n")
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return child


def undisturbed(jobs: list[EvalJob], home: Path) -> list[str]:
    """What an engine measures that is not killed; in a process of its own, since torch's threads do not survive a fork."""
    home.mkdir(parents=True)
    out = home / "measured.jsonl"
    file = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    assert os.waitpid(_fork(jobs, home, None, file), 0)[1] == 0
    os.close(file)
    return out.read_text().splitlines()


def trial(rng: random.Random, jobs: list[EvalJob], home: Path) -> None:
    """Kill an engine at a random tensor of a merge, and run the job again; prints what was measured."""
    merges = [job for job in jobs if job.live_merge]
    first, second = rng.sample(merges, 2)
    home.mkdir(parents=True)
    told, out = os.pipe(), home / "measured.jsonl"
    out.unlink(missing_ok=True)
    file = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    child = _fork([first, second], home, told[1], file)
    os.close(told[1])
    stop = rng.randrange(1, 2 * 39)
    count = 0
    while count < stop and os.read(told[0], 1):
        count += 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(told[0])
    after = _fork([first, second, jobs[0]], home, None, file)
    assert os.waitpid(after, 0)[1] == 0
    os.close(file)
    print(json.dumps({"killed at": count, "measured": out.read_text().splitlines()}), flush=True)


def main() -> None:
    """Run the trials; the first line is what undisturbed engines measure."""
    folder, home, trials = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    from tests.orchestrator.worker.test_live_merges import planned

    torch.set_num_threads(1)
    with patch.object(Inputs, "merged", _told_merged):
        plan = planned(folder)
        jobs = [p.job for p in plan.evals if not p.job.is_probe and p.job.live_layers is None]
        print(json.dumps({"undisturbed": undisturbed(jobs, home / "undisturbed")}), flush=True)
        rng = random.Random(0)
        for number in range(trials):
            trial(rng, jobs, home / f"trial-{number}")


_merged = Inputs.merged


def _told_merged(inputs: Inputs, live: LiveMerge, digest: str) -> MergedWeights:
    return _ToldWeights(**_merged(inputs, live, digest).model_dump())


if __name__ == "__main__":
    main()
