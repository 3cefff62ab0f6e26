"""What a worker opens is what was planned, or its job is refused: weights, artifacts, data, definitions, versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan.job import BuildJob, EvalJob, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import sweep_of_values
from orchestrator.run.artifact_use import ArtifactUse
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import BuildOutcome, EvalOutcome, Failure, FailureClass
from orchestrator.worker import inputs
from orchestrator.worker.worker import EngineHost, run_build
from recipes.artifact import ArtifactStore
from tests.recipes.test_verification import flip_last_byte
from tests.support.tiny_checkpoints import tiny_checkpoint


def planned(checkpoint: Path, **values: object) -> Plan:
    file = sweep_of_values(
        {
            "name": "swapped",
            "base": str(checkpoint),
            "recipes": [{"name": "path", "layer_path": "(1, 2)"}],
            "suites": [{"suite": "smoke", "benchmarks": ["bbh"], "limit": 2}],
            "engines": [{"kind": "transformers", "dtype": "float32"}],
            **values,
        },
        origin="test",
    )
    return make_plan(file, Settings.from_environment())


def context(home: Path) -> WorkerContext:
    return WorkerContext(home=str(home), datasets=None)


def evals(plan: Plan) -> list[EvalJob]:
    return [e.job for e in plan.evals]


def run(host: EngineHost, job: EvalJob) -> EvalOutcome | Failure:
    (outcome,) = host.run([Task(attempt_id=f"a-{job.digest}", job=job)])
    assert isinstance(outcome, EvalOutcome | Failure)
    return outcome


def refused(outcome: object) -> Failure:
    assert isinstance(outcome, Failure), outcome
    assert outcome.failure_class is FailureClass.CHANGED_INPUT, outcome.message
    return outcome


def test_weights_swapped_between_plan_and_start(home: Path, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base")
    job = evals(planned(base))[0]
    flip_last_byte(base / "model.safetensors")
    host = EngineHost(context(home))
    assert "does not hold what was planned" in refused(run(host, job)).message
    # With the planned files back, the same job runs.
    flip_last_byte(base / "model.safetensors")
    assert isinstance(run(host, job), EvalOutcome)
    host.close()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_files_swapped_while_the_engine_lives(name: str, home: Path, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base")
    first, second = evals(planned(base))
    host = EngineHost(context(home))
    assert isinstance(run(host, first), EvalOutcome)
    with (base / name).open("ab") as stream:
        stream.write(b" ")
    refused(run(host, second))
    host.close()


def test_an_engine_does_not_serve_weights_that_it_does_not_hold(home: Path, tmp_path: Path) -> None:
    """A plan made after the files changed is served by a new engine, not by the one that holds the old weights."""
    base = tiny_checkpoint(tmp_path / "base", seed=1)
    host = EngineHost(context(home))
    before = run(host, evals(planned(base))[0])
    tiny_checkpoint(base, seed=2)
    after = run(host, evals(planned(base))[0])
    host.close()
    fresh = EngineHost(context(home / "other"))
    expected = run(fresh, evals(planned(base))[0])
    fresh.close()
    assert isinstance(before, EvalOutcome)
    assert isinstance(after, EvalOutcome)
    assert isinstance(expected, EvalOutcome)
    assert after.samples_sha256 == expected.samples_sha256 != before.samples_sha256


def test_sources_swapped_before_a_build(home: Path, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base")
    (build,) = planned(base, materialize=True).builds
    flip_last_byte(base / "model.safetensors")
    refused(run_build(context(home), "b1", build))
    assert ArtifactStore(home / "artifacts").list() == ()


def built(home: Path, base: Path) -> tuple[BuildJob, EvalJob]:
    plan = planned(base, materialize=True)
    (build,) = plan.builds
    outcome = run_build(context(home), "b1", build)
    assert isinstance(outcome, BuildOutcome), outcome
    return build, next(job for job in evals(plan) if job.needs)


def test_an_artifact_that_was_altered_is_not_opened(home: Path, tmp_path: Path) -> None:
    build, job = built(home, tiny_checkpoint(tmp_path / "base"))
    flip_last_byte(home / "artifacts" / build.digest / "checkpoint" / "model.safetensors")
    host = EngineHost(context(home))
    assert "is not what was built" in refused(run(host, job)).message
    host.close()


def test_what_an_engine_has_open_is_not_pruned(home: Path, tmp_path: Path) -> None:
    build, job = built(home, tiny_checkpoint(tmp_path / "base"))
    store = ArtifactStore(home / "artifacts")
    host = EngineHost(context(home))
    assert isinstance(run(host, job), EvalOutcome)
    assert store.prune(0).leased == (build.digest,)
    host.close()
    assert [a.digest for a in store.prune(0).evicted] == [build.digest]


def test_what_a_run_still_needs_is_not_pruned(home: Path, tmp_path: Path) -> None:
    build, job = built(home, tiny_checkpoint(tmp_path / "base"))
    store = ArtifactStore(home / "artifacts")
    jobs = {build.digest: build, job.digest: job}
    use = ArtifactUse(store)
    assert use.begin(jobs, done={build.digest}) == set()
    assert store.prune(0).leased == (build.digest,)
    use.ended(job.digest, job)
    assert [a.digest for a in store.prune(0).evicted] == [build.digest]
    use.close()
    assert ArtifactUse(store).begin(jobs, done={build.digest}) == {build.digest}


def test_other_data_on_this_node(home: Path, tmp_path: Path) -> None:
    job = evals(planned(tiny_checkpoint(tmp_path / "base")))[0]
    host = EngineHost(context(home))
    refused(run(host, job.model_copy(update={"dataset_digest": "0" * 16})))
    host.close()


def test_other_definitions_or_versions_on_this_node(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = evals(planned(tiny_checkpoint(tmp_path / "base")))[0]
    host = EngineHost(context(home))
    assert (
        "defines smoke/bbh otherwise"
        in refused(run(host, job.model_copy(update={"benchmark_digest": "0" * 16}))).message
    )
    monkeypatch.setattr(inputs, "task_digest", lambda benchmark: "edited")
    assert "here tasks=edited" in refused(run(host, job)).message
    host.close()
