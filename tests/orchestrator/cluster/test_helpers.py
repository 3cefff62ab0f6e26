"""Who helps whom, on a clock that is only turned on."""

from __future__ import annotations

from orchestrator.cluster.helpers import EngineWork, Helping
from orchestrator.plan.job import Task
from tests.support.stand_in_plan import stand_in_plan

JOBS = [item.job for item in stand_in_plan(4).evals]
KEY = JOBS[0].engine_key


class Case:
    """Jobs of a hundred seconds, engines that take ten to open, help after thirty."""

    def __init__(self, seconds: float | None = 100.0) -> None:
        self.now = 0.0
        self.helping = Helping(lambda job: seconds, lambda job: 10.0, after_s=30.0, clock=lambda: self.now)
        self.running: list[EngineWork] = []

    def begin(self, number: int) -> Task:
        task = Task(attempt_id=f"attempt {number}", job=JOBS[number])
        self.helping.begun(task)
        self.running.append(EngineWork((task,), object(), since=self.now))
        return task

    def help(self, task: Task) -> EngineWork:
        work = EngineWork((), object(), helps=task, since=self.now)
        self.running.append(work)
        return work

    def asked(self) -> Task | None:
        return self.helping.task_for(KEY, self.running)


def test_a_job_is_helped_once_it_has_run_for_a_while_and_by_engines_of_its_own_model() -> None:
    case = Case()
    task = case.begin(0)
    assert case.asked() is None
    case.now = 30.0
    assert case.asked() == task
    assert case.helping.task_for("another model", case.running) is None


def test_helpers_spread() -> None:
    case = Case()
    one, other = case.begin(0), case.begin(1)
    case.now = 40.0
    case.help(one)
    assert case.asked() == other
    case.help(other)
    case.help(other)
    assert case.asked() == one


def test_a_helper_that_found_nothing_is_not_sent_again_until_the_next_attempt() -> None:
    case = Case()
    task = case.begin(0)
    case.now = 40.0
    case.helping.ended(task, more=True)
    assert case.asked() is None, "not at once"
    case.now = 46.0
    assert case.asked() == task
    case.helping.ended(task, more=False)
    case.now = 1000.0
    assert case.asked() is None
    case.running.clear()
    again = case.begin(0)
    case.now = 1040.0
    assert case.asked() == again


def test_batches_of_probes_are_not_shared() -> None:
    case = Case()
    case.running.append(
        EngineWork(tuple(Task(attempt_id=str(n), job=JOBS[n]) for n in range(2)), object(), since=0)
    )
    case.now = 100.0
    assert case.asked() is None
    assert case.helping.wants_engine(case.running) is None


def test_an_engine_is_opened_where_it_ends_the_job_sooner() -> None:
    case = Case(seconds=100.0)
    task = case.begin(0)
    case.now = 31.0
    assert case.helping.wants_engine(case.running) == task.job, "69 s are left, two starts are 20"
    for _ in range(3):
        case.help(task)
    assert case.helping.wants_engine(case.running) is None, "four share what is left"
    case.running[1:] = []
    case.now = 85.0
    assert case.helping.wants_engine(case.running) is None, "15 s are left"
    case.now = 150.0
    assert case.helping.wants_engine(case.running) == task.job, (
        "the estimate was wrong; how far it is nobody knows"
    )


def test_what_nobody_can_estimate_is_thought_to_be_half_done() -> None:
    case = Case(seconds=None)
    task = case.begin(0)
    case.now = 15.0
    assert case.helping.wants_engine(case.running) is None
    case.now = 35.0
    assert case.helping.wants_engine(case.running) == task.job


def test_a_helper_that_outlives_its_job_is_ended_after_a_minute() -> None:
    case = Case()
    task = case.begin(0)
    case.now = 40.0
    helper = case.help(task)
    assert case.helping.left_over(case.running) == []
    case.running.pop(0)
    assert case.helping.left_over(case.running) == []
    case.now = 99.0
    assert case.helping.left_over(case.running) == []
    case.now = 101.0
    assert case.helping.left_over(case.running) == [helper]
