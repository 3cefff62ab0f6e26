"""The scheduler with an executor that does as it is told: retries, rests, late results, jobs that nothing can hold."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orchestrator.cluster import Batch, Finished, ReadyJobs, Seat
from orchestrator.plan.job import EvalJob, Task
from orchestrator.run import scheduler as scheduling
from orchestrator.run.lease import take_lease
from orchestrator.run.retries import PAUSE_S
from orchestrator.run.run import register
from orchestrator.run.scheduler import RunProgress, RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import (
    AttemptRecord,
    AttemptState,
    EvalOutcome,
    Failure,
    FailureClass,
    NotStarted,
    RunLease,
)
from tests.support.in_process import Silent
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import eval_outcome

LOST = Failure(failure_class=FailureClass.LOST_NODE, message="The worker process died.")
NO_MEMORY = [
    Failure(failure_class=FailureClass.OUT_OF_MEMORY, message="Out of memory.", batch_size=size)
    for size in (256, 128)
]
BAD = Failure(failure_class=FailureClass.BAD_CHECKPOINT, message="A tensor is missing.")
HELD_BACK = "held back"
LATE = "late"


def answer(task: Task) -> Finished:
    """What an attempt brings where nothing goes wrong."""
    assert isinstance(task.job, EvalJob)
    outcome: EvalOutcome = eval_outcome(task.job)
    return Finished(attempt_id=task.attempt_id, job_digest=task.job.digest, outcome=outcome)


class Scripted:
    """One engine; `script` says how the attempts at the job called `odd` end, in turn, then they succeed.

    An attempt that is held back counts as lost, and its result comes after the next attempt at its job has started and before
    that ends; one that is only late comes while its job rests.
    """

    def __init__(
        self, odd: str, script: Sequence[Failure | str] = (), *, homeless: str | None = None
    ) -> None:
        self._odd = odd
        self._script = deque(script)
        self._homeless = homeless
        self._running: list[Task] = []
        self._held: list[Finished] = []
        self._late: list[Finished] = []
        self.started: list[Task] = []

    def pick(self, ready: ReadyJobs) -> list[Batch]:
        return [] if self._running else [ready.queue(key).take() for key in ready.first_of_each()][:1]

    def seat_of(self, batch: Batch) -> Seat:
        return Seat()

    def submit(self, tasks: Sequence[Task]) -> None:
        self._running.extend(tasks)
        self.started.extend(tasks)

    def wait(self, timeout_s: float) -> list[Finished]:
        found, self._late = self._late, []
        for task in self._running:
            odd = task.job.digest == self._odd
            late = self._held if odd else []
            self._held = [] if odd else self._held
            found += late
            end = self._script.popleft() if odd and self._script else None
            if end in (HELD_BACK, LATE):
                (self._held if end == HELD_BACK else self._late).append(answer(task))
                end = LOST
            ended = {"attempt_id": task.attempt_id, "job_digest": task.job.digest}
            found.append(Finished(**ended, outcome=end) if isinstance(end, Failure) else answer(task))
        self._running.clear()
        return found

    def give_up(self, attempt_id: str, failure: Failure) -> None:
        raise AssertionError(attempt_id)

    def homeless(self, ready: ReadyJobs) -> dict[str, str]:
        waiting = [job.digest for key in ready.first_of_each() for job in ready.all_for(key)]
        return {d: "No node could hold its engine." for d in waiting if d == self._homeless}

    def cancel(self) -> None:
        self._running.clear()


@pytest.fixture
def jobs() -> list[EvalJob]:
    return [planned.job for planned in stand_in_plan(6).evals]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs whose attempts the store was asked to start."""
    found: list[str] = []
    start = Store.start_attempt

    def counted(self: Store, lease: RunLease, digest: str, **where: str | None) -> AttemptRecord | NotStarted:
        found.append(digest)
        return start(self, lease, digest, **where)

    monkeypatch.setattr(Store, "start_attempt", counted)
    return found


def run(home: Path, executor: Scripted, name: str = "stand-in") -> tuple[RunSummary, Store]:
    """Run six jobs; how it went, and the store."""
    settings = Settings(
        home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None
    )
    plan = stand_in_plan(6, name=name)
    store = Store.open(settings.database_url)
    scheduler = Scheduler(
        store, plan, run_id=register(store, plan), settings=settings, reporter=Silent(), durations=None
    )
    return scheduler.run(executor), store


def slowly(wait: Callable[[float], list[Finished]], seconds: float) -> Callable[[float], list[Finished]]:
    """The same, a little later."""

    def later(timeout_s: float) -> list[Finished]:
        time.sleep(seconds)
        return wait(timeout_s)

    return later


def states(store: Store, job: EvalJob) -> list[AttemptState]:
    return [attempt.state for attempt in store.attempts(job.digest)]


def test_a_lost_job_rests_while_the_others_go_on(
    tmp_path: Path, jobs: list[EvalJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PAUSE_S, FailureClass.LOST_NODE, 1.0)
    odd = jobs[0]
    executor = Scripted(odd.digest, [LOST, LOST])
    summary, store = run(tmp_path, executor)
    assert (summary.done, summary.failed) == (6, {})
    assert states(store, odd) == [AttemptState.LOST, AttemptState.LOST, AttemptState.SUCCEEDED]
    order = [task.job.digest for task in executor.started]
    assert order[0] == odd.digest != order[1]
    assert len(order) == 8
    first, second, third = (a.started_at for a in store.attempts(odd.digest))
    assert (second - first).total_seconds() >= 1.0
    assert (third - second).total_seconds() >= 2.0


@pytest.mark.parametrize("end", [LOST, BAD], ids=["lost", "for good"])
def test_a_late_result_is_taken_and_the_failure_after_it_changes_nothing(
    tmp_path: Path, jobs: list[EvalJob], asked: list[str], monkeypatch: pytest.MonkeyPatch, end: Failure
) -> None:
    monkeypatch.setitem(PAUSE_S, FailureClass.LOST_NODE, 0.1)
    odd = jobs[1]
    summary, store = run(tmp_path, Scripted(odd.digest, [HELD_BACK, end]))
    assert (summary.done, summary.failed) == (6, {})
    last = AttemptState.LOST if end is LOST else AttemptState.FAILED
    assert states(store, odd) == [AttemptState.SUCCEEDED, last]
    assert asked.count(odd.digest) == 2


def test_a_job_whose_result_comes_while_it_rests_is_not_begun_again(
    tmp_path: Path, jobs: list[EvalJob], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The result comes with the second step; the rest ends before the sixth and last.
    monkeypatch.setitem(PAUSE_S, FailureClass.LOST_NODE, 2.0)
    odd, last = jobs[0], jobs[1]
    executor = Scripted(odd.digest, [LATE])
    monkeypatch.setattr(executor, "wait", slowly(executor.wait, 0.5))
    summary, store = run(tmp_path, executor)
    assert (summary.done, summary.failed) == (6, {})
    assert states(store, odd) == [AttemptState.SUCCEEDED]
    assert asked.count(odd.digest) == asked.count(last.digest) == 1


def test_a_job_that_another_run_holds_is_asked_for_now_and_then(
    tmp_path: Path, jobs: list[EvalJob], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "_ELSEWHERE_S", 0.4)
    with Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store:
        other = stand_in_plan(6, name="other")
        lease = take_lease(store, register(store, other))
        held = store.start_attempt(lease, jobs[0].digest)
        assert isinstance(held, AttemptRecord)
        executor = Scripted(jobs[0].digest)
        wait, begun = slowly(executor.wait, 0.1), time.monotonic()
        before: list[int] = []

        def and_the_other_ends(timeout_s: float) -> list[Finished]:
            if len(executor.started) == 5 or time.monotonic() - begun > 30:
                before.append(len(executor.started))
                store.finish_attempt(held.id, eval_outcome(jobs[0]))
            return wait(timeout_s)

        monkeypatch.setattr(executor, "wait", and_the_other_ends)
        summary, _ = run(tmp_path, executor)
    assert (summary.done, summary.failed) == (6, {})
    assert jobs[0].digest not in [task.job.digest for task in executor.started]
    assert before[0] == 5
    # Once by the other run, then every 0.4 s or more.
    assert 2 <= asked.count(jobs[0].digest) <= 3 + (time.monotonic() - begun) / 0.4


def test_out_of_memory_comes_back_with_half_the_batch(
    tmp_path: Path, jobs: list[EvalJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PAUSE_S, FailureClass.OUT_OF_MEMORY, 0.1)
    executor = Scripted(jobs[2].digest, NO_MEMORY)
    summary, _ = run(tmp_path, executor)
    assert summary.done == 6
    tried = [t.job for t in executor.started if t.job.digest == jobs[2].digest]
    assert [job.tuning.batch_size for job in tried if isinstance(job, EvalJob)] == [None, 128, 64]


def test_a_failure_for_good_and_a_job_without_a_place_stop_nothing_else(
    tmp_path: Path, jobs: list[EvalJob]
) -> None:
    summary, _ = run(tmp_path, Scripted(jobs[3].digest, [BAD], homeless=jobs[4].digest))
    assert summary.done == 4
    assert summary.failed == {
        jobs[3].digest: "A tensor is missing.",
        jobs[4].digest: "No node could hold its engine.",
    }


def test_attempts_that_fail_are_told_while_the_run_goes_on(
    tmp_path: Path, jobs: list[EvalJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its message and whether the job is tried again."""
    monkeypatch.setattr("orchestrator.run.reporting._REPORT_S", 0.0)
    monkeypatch.setitem(PAUSE_S, FailureClass.LOST_NODE, 0.0)
    seen: list[RunProgress] = []
    monkeypatch.setattr(Silent, "update", lambda self, progress: seen.append(progress), raising=False)
    run(tmp_path, Scripted(jobs[3].digest, [LOST, BAD]))
    told = [(p.attempts_failed, [(f.failure_class, f.retried) for f in p.failures]) for p in seen]
    lost, bad = (FailureClass.LOST_NODE, True), (BAD.failure_class, False)
    assert (0, []) in told
    assert (1, [lost]) in told
    assert told[-1] in [(1, [lost]), (2, [lost, bad])]
