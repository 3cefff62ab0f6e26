"""Start times of engines are measured, kept for later runs, and used by the estimate and by the executor."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineSpec
from orchestrator.cluster.helpers import EngineWork, Helping
from orchestrator.plan.durations import ENGINE_START_S, Durations
from orchestrator.plan.engine_starts import EngineStarts
from orchestrator.plan.job import EvalJob, Task
from orchestrator.run.cost import durations_of, plan_cost
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.stand_in_plan import stand_in_plan

SPEC = EngineSpec(kind=EngineKind.VLLM, version="0")
LARGE = SPEC.model_copy(update={"tensor_parallel": 8})


@pytest.fixture
def job() -> EvalJob:
    return stand_in_plan(1).evals[0].job


def test_starts_are_learned_and_kept(tmp_path: Path) -> None:
    starts = EngineStarts(tmp_path)
    assert starts.expected_s(SPEC) is None
    starts.learn(SPEC, 300.0)
    starts.learn(SPEC, 100.0)
    assert starts.expected_s(SPEC) == 200.0
    for _ in range(40):
        starts.learn(SPEC, 60.0)
    assert EngineStarts(tmp_path).expected_s(SPEC) == pytest.approx(60.0, abs=1.0)
    assert EngineStarts(tmp_path).expected_s(LARGE) == pytest.approx(60.0, abs=1.0), "as the others start"
    EngineStarts(tmp_path).learn(LARGE, 500.0)
    assert EngineStarts(tmp_path).expected_s(LARGE) == 500.0
    assert EngineStarts(tmp_path).expected_s(SPEC) == pytest.approx(60.0, abs=1.0)
    starts.learn(SPEC, 0.0)
    assert list(tmp_path.iterdir()) == [tmp_path / "engine-starts.json"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["x", "y"]}', "null"])
def test_a_damaged_file_is_no_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine-starts.json").write_text(text)
    starts = EngineStarts(tmp_path)
    assert starts.expected_s(SPEC) is None
    starts.learn(SPEC, 10.0)
    assert EngineStarts(tmp_path).expected_s(SPEC) == 10.0


def test_plan_and_run_use_what_was_measured(tmp_path: Path, job: EvalJob) -> None:
    plan = stand_in_plan(8)
    settings = Settings(
        home=tmp_path, database_url=f"sqlite:///{tmp_path}/s.sqlite", datasets=None, ray_address=None
    )
    with Store.open(settings.database_url) as store:
        assert durations_of(plan, store, on_gpu=True, home=tmp_path).start_s(job) == ENGINE_START_S
        EngineStarts(tmp_path).learn(job.engine, 240.0)
        known = durations_of(plan, store, on_gpu=True, home=tmp_path)
        assert known.start_s(job) == 240.0
        known.learn_start(job, 60.0)
        assert durations_of(plan, store, on_gpu=True, home=tmp_path).start_s(job) == 150.0
    sized = plan.model_copy(
        update={"candidates": tuple(c.model_copy(update={"parameters": 10**8}) for c in plan.candidates)}
    )
    before = plan_cost(sized, (), settings).duration_s
    EngineStarts(tmp_path).learn(job.engine, 1500.0)
    after = plan_cost(sized, (), settings).duration_s
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(450.0)


def test_an_engine_that_starts_slowly_is_opened_for_help_later(job: EvalJob) -> None:
    durations = Durations({}, on_gpu=True)
    helping = Helping(lambda job: 400.0, durations.start_s, clock=lambda: 50.0)
    work = EngineWork((Task(attempt_id="a", job=job),), object(), since=0.0)
    assert helping.wants_engine([work]) == job
    durations.learn_start(job, 300.0)
    assert helping.wants_engine([work]) is None
