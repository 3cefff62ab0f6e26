"""Live merges as jobs: the outcomes of built artifacts, on an engine that never scores a mixed model."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from evals.samples import read_samples
from evals.scores import PROBE_SUITE
from orchestrator.plan.job import BuildJob, EvalJob, LiveMerge, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import BuildOutcome, EvalOutcome, Failure, FailureClass, Outcome
from orchestrator.worker.inputs import Inputs
from orchestrator.worker.worker import EngineHost, run_build
from recipes.merge import MergedWeights
from tests.support.merge_recipes import SOURCES, STAGES, method_recipe
from tests.support.replaced_weights import sources_of_family
from tests.support.tiny_checkpoints import tiny_checkpoint

PROBE = "reasoning-easy-scored-search"
RECIPES = {"slerp": method_recipe("slerp"), "dare": method_recipe("dare_ties"), "stages": STAGES}


def planned(folder: Path, *, materialize: bool = False) -> Plan:
    """The base, three merges, and a layer path of the base, each on one benchmark and one probe."""
    recipes: list[dict[str, str]] = [{"layer_path": "(0, 2)"}]
    for name, text in RECIPES.items():
        (folder / f"{name}.yaml").write_text(text)
        recipes.append({"name": name, "file": f"{name}.yaml"})
    values = {
        "name": "s",
        "base": str(folder / "org/base"),
        "recipes": recipes,
        "sources": {source: str(folder / source) for source in SOURCES},
        "suites": [
            {"suite": PROBE_SUITE, "benchmarks": [PROBE]},
            {"suite": "smoke", "benchmarks": ["musr"], "limit": 2},
        ],
        "engines": [{"kind": "transformers", "dtype": "float32"}],
        "materialize": materialize,
    }
    file = parse_sweep(json.dumps(values).encode(), origin="s.yaml", folder=folder)
    return make_plan(file, Settings.from_environment())


def run_plan(plan: Plan, home: Path, host: EngineHost | None = None) -> dict[str, Outcome]:
    """The outcome of every job, one after another on one engine."""
    context = WorkerContext(home=str(home), datasets=None)
    own = host or EngineHost(context)
    outcomes: dict[str, Outcome] = {}
    for digest, job in plan.jobs.items():
        if isinstance(job, BuildJob):
            outcomes[digest] = run_build(context, f"b-{digest}", job)
        else:
            (outcomes[digest],) = own.run([Task(attempt_id=f"a-{digest}", job=job)])
    if host is None:
        own.close()
    return outcomes


def measured(outcome: Outcome, home: Path) -> object:
    """What an evaluation measured."""
    assert isinstance(outcome, EvalOutcome), outcome
    samples = [sample.model_dump() for sample in read_samples(home / outcome.samples_path)]
    return outcome.evaluation.result, outcome.evaluation.scores, samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources_of_family(tmp_path_factory.mktemp("sources"), "llama")


@pytest.mark.slow
def test_outcomes_are_those_of_built_artifacts(folder: Path, home: Path) -> None:
    """Job by job, with the same digests: what one way measured, the other way finds."""
    live, built = planned(folder), planned(folder, materialize=True)
    assert (len(live.builds), len(built.builds)) == (0, 4)  # the layer path is built too
    evals = {digest for digest, job in live.jobs.items() if isinstance(job, EvalJob)}
    assert evals == built.jobs.keys() - {job.digest for job in built.builds}
    ours = {digest: measured(outcome, home) for digest, outcome in run_plan(live, home).items()}
    assert not list((home / "artifacts").glob("*")) if (home / "artifacts").exists() else True
    theirs = run_plan(built, home)
    for digest, result in ours.items():
        assert result == measured(theirs[digest], home), digest
    assert all(isinstance(theirs[job.digest], BuildOutcome) for job in built.builds)
    scores = {planned.candidate: str(ours[planned.job.digest]) for planned in live.evals}
    assert len(set(scores.values())) == 5


class FailingWeights(MergedWeights):
    """A merge that fails before one of its tensors."""

    fails_at: int = 0

    def tensors(self) -> Generator[tuple[str, torch.Tensor], None, None]:
        for number, named in enumerate(super().tensors()):
            if number == self.fails_at:
                raise RuntimeError("injected")
            yield named


def test_after_an_error_the_next_job_runs_on_whole_weights(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(folder)
    jobs = [p.job for p in plan.evals if p.job.is_probe and p.candidate in ("base", "slerp")]
    host = EngineHost(WorkerContext(home=str(home), datasets=None))
    expected = {}
    for job in jobs:
        (outcome,) = host.run([Task(attempt_id="first", job=job)])
        expected[job.digest] = measured(outcome, home)
    merged, draw = Inputs.merged, random.Random(0)
    merges = [job for job in jobs if job.live_merge]

    def failing(inputs: Inputs, live: LiveMerge, digest: str) -> MergedWeights:
        weights = merged(inputs, live, digest)
        return FailingWeights(**weights.model_dump(), fails_at=draw.randrange(39))

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Inputs, "merged", failing)
            # The base comes between, since weights that an engine holds already are not loaded again.
            host.run([Task(attempt_id="base", job=jobs[0])])
            (outcome,) = host.run([Task(attempt_id="fails", job=draw.choice(merges))])
        assert isinstance(outcome, Failure)
        assert (outcome.failure_class, outcome.message) == (FailureClass.UNKNOWN, "injected")
        job = draw.choice(jobs)
        (outcome,) = host.run([Task(attempt_id="next", job=job)])
        assert measured(outcome, home) == expected[job.digest]
    host.close()


def test_the_bound_of_what_merges_keep_reaches_them(folder: Path, home: Path) -> None:
    merge = next(p.job for p in planned(folder).evals if p.candidate == "slerp")
    assert merge.live_merge is not None
    inputs = Inputs(WorkerContext(home=str(home), datasets=None, merge_memory_bytes=1 << 20))
    assert inputs.merged(merge.live_merge, merge.weights_digest).keep_bytes == 1 << 20


def test_a_source_that_changed_is_no_merge_of_the_plan(tmp_path: Path, home: Path) -> None:
    folder = sources_of_family(tmp_path, "llama")
    plan = planned(folder)
    base, merge = (next(p.job for p in plan.evals if p.candidate == name) for name in ("base", "slerp"))
    host = EngineHost(WorkerContext(home=str(home), datasets=None))
    tiny_checkpoint(folder / "org/one", layers=4, seed=9)
    (outcome,) = host.run([Task(attempt_id="a", job=merge)])
    assert isinstance(outcome, Failure)
    assert outcome.failure_class is FailureClass.CHANGED_INPUT
    (outcome,) = host.run([Task(attempt_id="b", job=base)])
    assert isinstance(outcome, EvalOutcome)
    host.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_engine_that_is_killed_in_a_merge_scores_no_mixed_model(folder: Path, home: Path) -> None:
    """Fifty times at a random tensor of the first or second merge; the jobs are then run again on the same home."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_merges", str(folder), str(home), "50"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    undisturbed, *trials = map(json.loads, done.stdout.splitlines())
    expected = {json.loads(line)[0]: line for line in undisturbed["undisturbed"]}
    assert len(set(expected.values())) == len(expected) == 4
    assert len(trials) == 50
    measured = [line for trial in trials for line in trial["measured"]]
    assert len(measured) >= 150
    assert all(line == expected[json.loads(line)[0]] for line in measured)
    print(
        f"killed at tensors {sorted(trial['killed at'] for trial in trials)}; {len(measured)} results, all of whole models"
    )
