"""Probes as jobs: planned from a sweep, served in batches by one engine, kept like any evaluation but never as a score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evals.engine import EngineTuning
from evals.probes import Scoring, get_probe
from evals.probes.evaluate import result_of_samples
from evals.samples import read_samples
from evals.scores import PROBE_SUITE
from orchestrator.cluster import BATCH_JOBS, Batch, ReadyJobs
from orchestrator.plan.job import BuildJob, EvalJob, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import sweep_of_values
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import EvalOutcome, Failure, FailureClass
from orchestrator.worker.worker import EngineHost
from tests.support.tiny_checkpoints import tiny_checkpoint

PROBE = "reasoning-easy-scored-search"


def planned(checkpoint: Path, grid: str = "all", **values: object) -> Plan:
    file = sweep_of_values(
        {
            "name": "scan",
            "base": str(checkpoint),
            "recipes": [{"grid": grid}],
            "suites": [{"suite": PROBE_SUITE, "benchmarks": [PROBE, "emotion-easy-scored-search"]}],
            "engines": [{"kind": "transformers", "dtype": "float32"}],
            **values,
        },
        origin="test",
    )
    return make_plan(file, Settings.from_environment())


def jobs_of(plan: Plan, probe: str = PROBE) -> list[EvalJob]:
    return [planned.job for planned in plan.evals if planned.job.benchmark == probe]


def run(home: Path, jobs: list[EvalJob]) -> tuple[EvalOutcome | Failure, ...]:
    host = EngineHost(WorkerContext(home=str(home), datasets=None))
    tasks = [Task(attempt_id=f"a{n}", job=job) for n, job in enumerate(jobs)]
    outcomes = host.run(tasks)
    host.close()
    return outcomes  # type: ignore[return-value]  # a probe is no build


def batches(jobs: Sequence[BuildJob | EvalJob], engines: int = 1) -> list[Batch]:
    """The batches of jobs that one engine serves."""
    ready = ReadyJobs.of(jobs)
    (key,) = ready.first_of_each()
    queue = ready.queue(key, lambda job: engines)
    expected = len(queue)
    found = [queue.take() for _ in range(expected)]
    assert not queue.ahead(1)
    return found


def test_jobs_of_one_probe_run_together(home: Path, tiny_llama: Path) -> None:
    plan = planned(tiny_llama)
    jobs = list(plan.jobs.values())
    assert len(jobs) == 2 * 11
    found = batches(jobs)
    assert [len(batch) for batch in found] == [11, 11]
    for batch in found:
        assert len({job.benchmark for job in batch if isinstance(job, EvalJob)}) == 1
    many = [job.model_copy(update={"weights_digest": str(n)}) for n in range(5) for job in found[0]]
    same = [job.model_copy(update={"weights_digest": "w", "layer_path": (n,)}) for n, job in enumerate(many)]
    assert [len(batch) for batch in batches(same)] == [BATCH_JOBS, 55 - BATCH_JOBS]
    assert [len(batch) for batch in batches(same, engines=5)] == [11] * 5
    smaller = [job.model_copy(update={"tuning": EngineTuning(batch_size=4)}) for job in same]  # type: ignore[union-attr]
    assert max(map(len, batches(smaller))) == 4


def test_one_batch_gives_each_job_its_value_and_samples(home: Path, tiny_llama: Path) -> None:
    jobs = jobs_of(planned(tiny_llama, "i=0:4:2"))
    outcomes = run(home, jobs)
    probe = get_probe(PROBE)
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert isinstance(outcome, EvalOutcome), outcome
        assert outcome.contradiction(job) is None
        result = outcome.evaluation.result
        assert not result.comparable_to_board
        assert "no benchmark score" in str(result.remark)
        stored = result_of_samples(probe, read_samples(home / outcome.samples_path))
        assert math.isclose(stored.value(Scoring.CORRECTED), result.raw)
    alone = run(home, [jobs[2]])[0]
    assert isinstance(alone, EvalOutcome)
    together = outcomes[2]
    assert isinstance(together, EvalOutcome)
    assert math.isclose(alone.evaluation.result.raw, together.evaluation.result.raw, abs_tol=1e-6)
    assert len({o.evaluation.result.raw for o in outcomes if isinstance(o, EvalOutcome)}) > len(jobs) // 2


def test_a_path_that_fails_takes_no_other_with_it(home: Path, tiny_llama: Path) -> None:
    jobs = jobs_of(planned(tiny_llama, "i=0:4:2"))
    jobs[1] = jobs[1].model_copy(update={"live_layers": (0, 99)})
    outcomes = run(home, jobs)
    assert [isinstance(o, Failure) for o in outcomes] == [n == 1 for n in range(len(jobs))]
    assert isinstance(outcomes[1], Failure)
    assert outcomes[1].failure_class is FailureClass.BAD_CHECKPOINT
    assert (home / "logs" / "a2.log").exists()


def test_a_path_without_finite_probabilities_is_told_apart(home: Path, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "base", layers=4, dtype="float32")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.2.mlp.down_proj.weight"].fill(np.nan)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    jobs = jobs_of(planned(checkpoint, "i=0:1"))
    jobs = [
        j.model_copy(update={"live_layers": p}) for j, p in zip(jobs, ((0, 1, 3), (0, 1, 2, 3)), strict=False)
    ]
    outcomes = run(home, jobs)
    assert isinstance(outcomes[0], EvalOutcome)
    assert isinstance(outcomes[1], Failure)
    assert "overflow" in outcomes[1].message


@pytest.mark.parametrize(
    ("suites", "words"),
    [
        ([{"suite": PROBE_SUITE, "benchmarks": ["nonsense-search"]}], "There is no probe"),
        ([{"suite": PROBE_SUITE, "limit": 3}], "asked whole"),
    ],
)
def test_what_is_no_probe_is_refused(home: Path, tiny_llama: Path, suites: object, words: str) -> None:
    with pytest.raises(Exception, match=words):
        planned(tiny_llama, suites=suites)
