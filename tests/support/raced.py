"""A race of candidates with the real scheduler and store, and answers without an engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from evals.early import EarlyEvaluation
from evals.race_rule import RaceRule
from evals.stats.candidate_race import part_of_documents
from evals.stats.resample import Floats
from evals.stats.sequence import LookSequence, PartAnswers, SubsetPart
from orchestrator.plan.candidate_race import first_round
from orchestrator.plan.estimate import EngineNeed
from orchestrator.plan.job import EvalJob, Task
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import DecideEntry
from orchestrator.run.candidate_race import CandidateRounds
from orchestrator.run.run import register
from orchestrator.run.scheduler import RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, EvalOutcome, Outcome
from tests.orchestrator.run.test_decided import LOST, Asker
from tests.support.in_process import Silent
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import HARDWARE, eval_outcome

N = 200
RULE = RaceRule(keep=2, shares=(0.1, 0.3), error_rate=0.1)


def raced_plan(candidates: int = 8, rule: RaceRule = RULE, name: str = "raced") -> Plan:
    plan = stand_in_plan(2 * (candidates + 1), name=name)
    sweep = plan.sweep.model_copy(update={"decide": DecideEntry(race=rule)})
    return plan.model_copy(update={"sweep": sweep, "text": f"name: {name}\n"})


def answers(job: EvalJob) -> Floats:
    """Right or wrong on each document: paths of 13 and 14 layers know most, long ones least, and all find the same ones easy."""
    share = {12: 0.6, 13: 0.78, 14: 0.74, 15: 0.7}.get(len(job.layer_path or range(12)), 0.3)
    alone = np.random.default_rng([len(job.layer_path or ()), len(job.benchmark)]).random(N)
    shared = np.random.default_rng(len(job.benchmark)).random(N)
    return (0.5 * (alone + shared) < share).astype(float)


def part(job: EvalJob) -> EarlyOutcome:
    assert job.decide is not None
    assert job.decide.part is not None
    keys = [("s", n) for n in range(N)]
    items = part_of_documents(keys, job.decide.part, job.decide.plan.order_seed)
    credits = (answers(job) - answers(job.model_copy(update={"layer_path": None})))[list(items)]
    asked = PartAnswers(
        items=items,
        credits=tuple(credits.tolist()),
        subsets=(SubsetPart(name="s", n=len(items), n_whole=N, points=100.0),),
    )
    early = EarlyEvaluation(
        suite=job.suite,
        benchmark=job.benchmark,
        title=job.benchmark.upper(),
        benchmark_digest=job.benchmark_digest,
        engine=job.engine,
        settings=job.settings,
        sequence=LookSequence(plan=job.decide.plan, n_whole=N, looks=(), part=asked),
        n_requests=len(items),
        n_replayed=0,
        duration_s=len(items) / 10,
    )
    now = datetime.now(UTC)
    return EarlyOutcome(early=early, hardware=HARDWARE, started_at=now, ended_at=now)


class Racer(Asker):
    """An executor whose workers ask parts, some of them killed."""

    def expect(self, needs: Mapping[str, EngineNeed], later: Mapping[str, int]) -> None:
        """It has no memory to plan."""

    def _outcome(self, task: Task) -> Outcome:
        job = task.job
        assert isinstance(job, EvalJob)
        if self._killed and job.layer_path is not None:
            self._killed -= 1
            return LOST
        return self.answer(job, task)

    def answer(self, job: EvalJob, task: Task) -> EvalOutcome | EarlyOutcome:
        if job.decide is None:
            return eval_outcome(job, value=float(answers(job).mean()))
        assert task.base is not None, "the base's answers travel with the job"
        return part(job)


def run_race(home: Path, plan: Plan, executor: Asker, url: str | None = None) -> tuple[RunSummary, Store]:
    """What `orchestrator.run.run.execute` does with a plan whose candidates race."""
    settings = Settings(
        home=home, database_url=url or f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    store = Store.open(settings.database_url)
    rule = plan.sweep.decide.race if plan.sweep.decide else None
    assert rule is not None
    run_id = register(store, plan)
    scheduler = Scheduler(
        store,
        first_round(plan, rule),
        run_id=run_id,
        settings=settings,
        reporter=Silent(),
        additions=CandidateRounds(plan, rule, store),
    )
    return scheduler.nothing_to_do() or scheduler.run(executor), store
