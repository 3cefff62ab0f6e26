"""Runs that stop when it is decided: what is planned, what the store holds of it, and what completes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evals.stats.stopping import Aim, Decision
from orchestrator.cluster import Batch, Finished, ReadyJobs, Seat
from orchestrator.errors import SweepError
from orchestrator.plan.benchmarks import MissingBenchmark
from orchestrator.plan.decide import Evidence, benchmark_ranks, by_information, look_plan
from orchestrator.plan.job import EvalJob, Task, job_from_json
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import DecideEntry, Sweep, parse_sweep
from orchestrator.plan.sweep_schema import sweep_schema
from orchestrator.run.node_data import without
from orchestrator.run.run import register
from orchestrator.run.scheduler import RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, EvalOutcome, Failure, FailureClass, Outcome
from tests.support.decided import ENTRY, N, asked_until_decided, decided_plan
from tests.support.in_process import Silent
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import eval_outcome

LOST = Failure(failure_class=FailureClass.LOST_NODE, message="The worker process died.")


class Asker:
    """An executor whose workers ask in slices, some of them killed in the middle."""

    def __init__(self, engines: int = 1, killed: int = 0) -> None:
        self._engines, self._killed = engines, killed
        self._running: list[Task] = []
        self.started: list[Task] = []

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        free = self._engines - len(self._running)
        return [ready.queue(key).take() for key in ready.first_of_each()][: max(0, free)]

    def seat_of(self, batch: Batch) -> Seat:
        return Seat()

    def submit(self, tasks: Sequence[Task]) -> None:
        self._running.extend(tasks)
        self.started.extend(tasks)

    def wait(self, timeout_s: float) -> list[Finished]:
        ended, self._running = self._running, []
        return [
            Finished(attempt_id=t.attempt_id, job_digest=t.job.digest, outcome=self._outcome(t))
            for t in ended
        ]

    def _outcome(self, task: Task) -> Outcome:
        job = task.job
        assert isinstance(job, EvalJob)
        if job.decide is None:
            return eval_outcome(job)
        assert task.base is not None, "the base's answers travel with the job"
        if self._killed:
            self._killed -= 1
            return LOST
        return asked_until_decided(job)

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        raise AssertionError(attempt_id)

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        return {}

    def cancel(self) -> None:
        self._running.clear()


def run(home: Path, plan: Plan, executor: Asker) -> tuple[RunSummary, Store]:
    settings = Settings(
        home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    store = Store.open(settings.database_url)
    scheduler = Scheduler(
        store, plan, run_id=register(store, plan), settings=settings, reporter=Silent(), durations=None
    )
    return scheduler.run(executor), store


def test_identity_is_that_of_the_whole_evaluation_without_the_rule() -> None:
    whole, marked = stand_in_plan(6), decided_plan(6)
    pairs = list(zip(whole.evals, marked.evals, strict=True))
    assert [m.job.digest == w.job.digest for w, m in pairs] == [True, True, False, False, False, False]
    for w, m in pairs:
        assert m.job.whole.digest == w.job.digest
        assert job_from_json(m.job.model_dump_json()) == m.job
    job = pairs[2][1].job
    assert job.decide is not None
    assert job.needs == (whole.evals[0].job.digest,)
    assert job.artifacts == ()
    assert job.decide.plan.rule.error_rate == pytest.approx(0.2 / 4)
    assert "decide" not in pairs[0][1].job.model_dump()
    other = decided_plan(6, ENTRY.model_copy(update={"seed": 1}))
    assert other.evals[2].job.digest != job.digest


def test_an_early_stop_has_a_decision_and_no_score(tmp_path: Path) -> None:
    plan = decided_plan(6)
    summary, store = run(tmp_path, plan, Asker())
    assert (summary.done, summary.failed) == (6, {})
    records = store.sequences(summary.run_id)
    assert len(records) == 4
    early = [record for record in records if record.early]
    assert {record.sequence.decision for record in early} == {Decision.WORSE}
    assert {record.sequence.decision for record in records if not record.early} == {Decision.OPEN}
    digests = {record.job_digest for record in early}
    assert digests
    assert not digests & set(store.evaluated(summary.run_id))
    outcomes = store.outcomes(digests)
    assert all(isinstance(outcome, EarlyOutcome) for outcome in outcomes.values())
    assert store.evaluations(digests) == {}
    # What was asked whole is a score as ever, with its looks.
    kept = store.outcomes([record.job_digest for record in records if not record.early])
    assert all(isinstance(o, EvalOutcome) and o.sequence is not None for o in kept.values())
    saved = store.savings(summary.run_id)
    assert saved is not None
    assert (saved.comparisons, saved.early, saved.whole) == (4, len(early), 4 * N)
    assert saved.asked == sum(record.sequence.n for record in records)
    assert saved.saved_s > 0
    assert f"{saved.asked:,} of 800 documents" in saved.sentence
    assert [job.job for job in store.run_jobs(summary.run_id)] == [e.job for e in plan.evals]


def test_killed_workers_and_other_numbers_of_them_change_nothing(tmp_path: Path) -> None:
    plan = decided_plan(8)
    _, one = run(tmp_path / "one", plan, Asker())
    _, many = run(tmp_path / "many", plan, Asker(engines=3, killed=2))
    run_id = one.runs()[0].id
    first, second = one.sequences(run_id), many.sequences(run_id)
    assert [r.sequence for r in first] == [r.sequence for r in second]
    assert any(r.early for r in first)


def test_the_base_is_asked_first(tmp_path: Path) -> None:
    executor = Asker()
    plan = decided_plan(6)
    run(tmp_path, plan, executor)
    bases = [e.job.digest for e in plan.evals if e.job.decide is None]
    assert [task.job.digest for task in executor.started[:2]] == bases


def test_a_whole_evaluation_that_is_in_the_store_is_used_and_not_asked(tmp_path: Path) -> None:
    run(tmp_path, stand_in_plan(6), Asker())
    executor = Asker()
    summary, store = run(tmp_path, decided_plan(6), executor)
    assert executor.started == []
    assert (summary.done, summary.cached) == (6, 2)
    assert store.savings(summary.run_id) is None


def test_the_whole_run_has_jobs_and_scores_of_its_own(tmp_path: Path) -> None:
    first, _ = run(tmp_path, decided_plan(6), Asker())
    executor = Asker()
    whole, store = run(tmp_path, stand_in_plan(6, name="decided"), executor)
    assert whole.run_id != first.run_id
    assert len(executor.started) == 4
    assert len(store.evaluated(whole.run_id)) == 6


def test_a_candidate_that_is_worse_leaves(tmp_path: Path) -> None:
    plan = decided_plan(6, ENTRY.model_copy(update={"leave": True, "first": ("ifeval",)}))
    by_name = {(e.candidate, e.job.benchmark): e.job for e in plan.evals}
    names = list(dict.fromkeys(e.candidate for e in plan.evals))
    for name in names[1:]:
        first, second = by_name[name, "ifeval"], by_name[name, "bbh"]
        assert first.decide is not None
        assert second.decide is not None
        assert (first.decide.after, second.decide.after) == (None, first.digest)
        assert set(second.needs) == {by_name[names[0], "bbh"].digest, first.digest}
    executor = Asker(engines=2)
    summary, store = run(tmp_path, plan, executor)
    assert (summary.done, summary.failed) == (6, {})
    records = {(r.candidate, r.benchmark): r for r in store.sequences(summary.run_id)}
    worse = [name for name in names[1:] if records[name, "ifeval"].sequence.decision is Decision.WORSE]
    assert worse
    assert worse != names[1:]
    asked = {task.job.digest for task in executor.started}
    for name in names[1:]:
        record = records[name, "bbh"]
        left = name in worse
        assert (record.sequence.left is not None) is left
        assert (by_name[name, "bbh"].digest in asked) is not left
        if left:
            assert (record.early, record.sequence.n, record.n_requests) == (True, 0, 0)
            assert record.sequence.text.startswith("not asked: IFEVAL decided: worse by ")
    assert not {by_name[name, "bbh"].digest for name in worse} & set(store.evaluated(summary.run_id))
    saved = store.savings(summary.run_id)
    assert saved is not None
    assert saved.asked == sum(r.sequence.n for r in records.values())
    # What left is asked by the whole run.
    executor = Asker()
    whole, _ = run(tmp_path, stand_in_plan(6, name="decided"), executor)
    assert whole.done == 6
    assert by_name[worse[0], "bbh"].whole.digest in {task.job.digest for task in executor.started}


@pytest.mark.parametrize("failing", ["candidate", "base"])
def test_a_failed_benchmark_decides_nothing(tmp_path: Path, failing: str) -> None:
    """Neither a candidate's failure nor that of the base, which it is decided against, keeps the next benchmark from being asked."""
    plan = decided_plan(6, ENTRY.model_copy(update={"leave": True, "first": ("ifeval",)}))
    names = list(dict.fromkeys(e.candidate for e in plan.evals))
    by_name = {(e.candidate, e.job.benchmark): e.job for e in plan.evals}
    lost = by_name[names[0 if failing == "base" else 1], "ifeval"].digest

    class Failing(Asker):
        def _outcome(self, task: Task) -> Outcome:
            if task.job.digest == lost:
                return Failure(failure_class=FailureClass.BAD_INPUT, message="No.")
            return super()._outcome(task)

    executor = Failing()
    summary, _ = run(tmp_path, plan, executor)
    asked = {task.job.digest for task in executor.started}
    assert summary.failed == {lost: "No."}
    assert summary.blocked == (2 if failing == "base" else 0)
    assert by_name[names[1], "bbh"].digest in asked
    if failing == "base":
        assert {by_name[name, "bbh"].digest for name in names} <= asked


def test_a_benchmark_that_cannot_run_takes_its_place_in_the_chain_with_it() -> None:
    entry = ENTRY.model_copy(update={"leave": True, "first": ("ifeval",)})
    plan = decided_plan(6, entry)
    left = without(plan, [MissingBenchmark(suite="smoke", benchmark="ifeval", reason="No data.")])
    jobs = left.jobs
    assert {job.benchmark for job in jobs.values() if isinstance(job, EvalJob)} == {"bbh"}
    assert all(set(job.needs) <= set(jobs) for job in jobs.values())
    rates = {e.job.decide.plan.rule.error_rate for e in left.evals if e.job.decide}
    assert rates == {0.1}
    whole = without(plan.model_copy(update={"whole": True, "evals": stand_in_plan(6).evals}), left.missing)
    assert all(e.job.decide is None for e in whole.evals)


def test_an_early_stop_cannot_end_a_job_that_asks_for_the_whole() -> None:
    job = decided_plan(6).evals[2].job
    outcome = asked_until_decided(job)
    assert isinstance(outcome, EarlyOutcome)
    assert outcome.contradiction(job) is None
    assert "asks for the whole benchmark" in str(outcome.contradiction(job.whole))
    assert job.decide is not None
    plan = job.decide.plan.model_copy(update={"order_seed": 5})
    changed = job.model_copy(update={"decide": job.decide.model_copy(update={"plan": plan})})
    assert "another rule" in str(outcome.contradiction(changed))


def test_the_rule_of_a_sweep() -> None:
    assert look_plan(DecideEntry(), 10).rule.aim is Aim.DIFFERENCE
    rule = look_plan(DecideEntry(margin=2), 10).rule
    assert (rule.aim, rule.margin_points, rule.error_rate) == (Aim.EQUIVALENCE, 2, pytest.approx(0.005))
    # Thousands of paths on six benchmarks still have a boundary.
    assert 0 < look_plan(DecideEntry(error_rate=1e-3), 100_000).rule.level(0.5) < 1e-8


def sweep(text: str) -> Sweep:
    head = b"name: s\nbase: b\nsuites: [smoke]\n"
    return parse_sweep(head + text.encode(), origin="s.yaml", folder=Path()).sweep


def test_decide_in_a_sweep_file() -> None:
    assert sweep("").decide is None
    assert sweep("decide: true").decide == DecideEntry()
    assert sweep("decide: false").decide is None
    assert sweep("decide: {margin: 1.5, first: [ifeval]}").decide == DecideEntry(
        margin=1.5, first=("ifeval",)
    )
    with pytest.raises(SweepError, match=r"s.yaml:4: decide.margn: .*did you mean `margin`"):
        sweep("decide: {margn: 1}")
    with pytest.raises(SweepError, match="score_base"):
        sweep("decide: true\nscore_base: false")
    assert "boolean" in str(sweep_schema()["properties"]["decide"])
    assert "decide" not in sweep("").model_dump()


def test_the_cheapest_evidence_comes_first() -> None:
    jobs = [p.job for p in stand_in_plan(2).evals]
    seconds = {"bbh": 1000.0, "ifeval": 100.0}

    def ranked(variances: dict[tuple[str, str], float]) -> list[Evidence]:
        return by_information(jobs, lambda job: seconds[job.benchmark], lambda job: 100, variances)

    plain = ranked({})
    assert [e.benchmark for e in plain] == ["ifeval", "bbh"]
    assert plain[0].information_per_s == pytest.approx(1 / 1200)
    # A benchmark whose differences vary a hundred times as much tells less, though it is ten times as fast.
    measured = ranked({("smoke", "ifeval"): 100_000.0, ("smoke", "bbh"): 1000.0})
    assert [e.benchmark for e in measured] == ["bbh", "ifeval"]
    assert benchmark_ranks(plain, ()) == {("smoke", "ifeval"): 0, ("smoke", "bbh"): 1}
    assert benchmark_ranks(plain, ("bbh",)) == {("smoke", "bbh"): 0, ("smoke", "ifeval"): 1}
