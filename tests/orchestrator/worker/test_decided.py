"""An early stop through planner, scheduler, store and worker; the engine alone answers by a rule instead of a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evals.engine import EngineSpec, EngineTuning
from evals.stats.stopping import Decision
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.run.run import register, stored_plan
from orchestrator.run.scheduler import RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome
from orchestrator.worker import worker
from tests.support.in_process import InProcess, Silent
from tests.support.rule_engine import RuleEngine

SWEEP = """\
name: decided
base: {base}
recipes: ["(1, 2)"]
suites: [{{suite: smoke, benchmarks: [bbh]}}]
engines: [{{kind: transformers, dtype: float32}}]
decide: {{margin: 45, smallest_share: 0.1, slice: 0.1}}
"""


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[RuleEngine]:
    """The engines that were opened."""
    opened: list[RuleEngine] = []

    def open_rule(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> RuleEngine:
        opened.append(RuleEngine(checkpoint, spec))
        return opened[-1]

    monkeypatch.setattr(worker, "open_engine", open_rule)
    return opened


def run(plan: Plan, settings: Settings) -> tuple[RunSummary, Store]:
    store = Store.open(settings.database_url)
    scheduler = Scheduler(store, plan, run_id=register(store, plan), settings=settings, reporter=Silent())
    return scheduler.run(InProcess(settings)), store


def test_it_stops_is_repeated_from_its_journal_and_completed(
    tiny_llama: Path, tmp_path: Path, engines: list[RuleEngine]
) -> None:
    home = tmp_path / "home"
    settings = Settings(
        home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    file = parse_sweep(SWEEP.format(base=tiny_llama).encode(), origin="sweep.yaml", folder=tmp_path)
    plan = make_plan(file, settings)
    summary, store = run(plan, settings)
    assert (summary.done, summary.failed) == (2, {})
    (record,) = store.sequences(summary.run_id)
    assert record.sequence.decision is Decision.EQUIVALENT
    assert record.early
    n, n_whole = record.sequence.n, record.sequence.n_whole
    assert 0 < n < n_whole == 98
    asked = sum(engine.asked for engine in engines)
    assert asked < 2 * n_whole
    job = plan.jobs[record.job_digest]
    assert isinstance(job, EvalJob)
    assert list((home / "journals" / job.whole.digest).glob("*.journal"))
    assert not (home / "journals" / job.digest).exists()
    assert not (home / "samples" / f"{job.digest}.parquet").exists()

    # Another home with the same journal decides the same and asks the base alone.
    again = settings.model_copy(
        update={"home": tmp_path / "again", "database_url": f"sqlite:///{tmp_path}/again.sqlite"}
    )
    shutil.copytree(home / "journals", again.home / "journals")
    before = sum(engine.asked for engine in engines)
    repeated, other = run(plan, again)
    (same,) = other.sequences(repeated.run_id)
    assert same.sequence == record.sequence
    assert sum(engine.asked for engine in engines) - before < n_whole

    # The stored run is planned again as it was, and whole: what is missing is asked, and nothing twice.
    assert stored_plan(summary.run_id, settings).jobs == plan.jobs
    whole_plan = stored_plan(summary.run_id, settings, whole=True)
    assert set(whole_plan.jobs) == {e.job.whole.digest for e in plan.evals}
    before = sum(engine.asked for engine in engines)
    whole, store = run(whole_plan, settings)
    assert (whole.done, whole.cached) == (2, 1)
    assert whole.run_id != summary.run_id
    outcome = store.outcomes([job.whole.digest])[job.whole.digest]
    assert isinstance(outcome, EvalOutcome)
    assert outcome.evaluation.result.n == n_whole
    assert not outcome.evaluation.result.partial
    assert outcome.evaluation.n_replayed >= n
    assert sum(engine.asked for engine in engines) - before <= n_whole - n
    assert store.savings(whole.run_id) is None
    assert stored_plan(whole.run_id, settings).jobs == whole_plan.jobs
    # What is whole is used by the sweep that may stop early.
    assert not (home / "journals" / job.whole.digest).exists()
