"""Attempts and outcomes of jobs: one conformance suite over SQLite and PostgreSQL."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from evals.engine import EngineKind, EngineSpec
from orchestrator.errors import RunError, StoreError
from orchestrator.plan.durations import Workload
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import (
    Acceptance,
    AttemptState,
    EvalOutcome,
    Failure,
    FailureClass,
    NotStarted,
)
from tests.support.store_data import N_DEMO, build_job, build_outcome, eval_job, eval_outcome
from tests.support.store_work import BAD_INPUT, driven, finish_all, started


class TestAttempts:
    def test_a_job_is_tried_by_one_attempt_at_a_time_and_never_again_once_done(self, store: Store) -> None:
        first, second = driven(store, "a", "one"), driven(store, "b", "two")
        job = build_job()
        attempt = started(store, first, job.digest)
        assert store.start_attempt(second, job.digest) is NotStarted.HELD
        assert store.start_attempt(first, job.digest) is NotStarted.HELD
        assert store.running_attempts() == (attempt,)
        assert store.running_attempts(second.run_id) == ()
        assert store.finish_attempt(attempt.id, build_outcome(job)) is Acceptance.ACCEPTED
        assert store.start_attempt(second, job.digest) is NotStarted.JOB_DONE

    def test_an_attempt_that_nobody_vouches_for_makes_room(self, url: str) -> None:
        with Store.open(url, lease_s=0.2) as store:
            dead, alive = driven(store, "dead", "one"), driven(store, "alive", "two")
            job = build_job()
            lost = started(store, dead, job.digest)
            time.sleep(0.3)
            attempt = started(store, alive, job.digest)
            assert attempt.number == 2
            assert [a.state for a in store.attempts(job.digest)] == [AttemptState.LOST, AttemptState.RUNNING]
            assert store.renew(dead, [lost.id]).lost == (lost.id,)

    def test_a_job_of_another_run_cannot_be_started(self, store: Store) -> None:
        lease = driven(store)
        with pytest.raises(StoreError, match="no job"):
            store.start_attempt(lease, "unknown")

    def test_a_failure_is_kept_with_its_log(self, store: Store) -> None:
        lease = driven(store)
        attempt = started(store, lease, build_job().digest)
        failure = Failure(
            failure_class=FailureClass.FULL_DISK,
            message="Full.\0\ud800",
            log_tail="x" * 100_000,
            node="node-7",
        )
        assert store.fail_attempt(attempt.id, failure, will_retry=True)
        assert store.fail_attempt(attempt.id, failure, will_retry=True)
        found = store.attempts(attempt.job_digest)[0]
        assert (found.state, found.failure_class, found.node) == (
            AttemptState.FAILED,
            FailureClass.FULL_DISK,
            "node-7",
        )
        assert found.message == "Full.\ufffd?"
        assert found.log_tail is not None
        assert found.log_tail.endswith("xxx")
        assert len(found.log_tail) < 70_000
        assert store.failed_attempts(lease.run_id) == (found,)
        assert not store.fail_attempt(attempt.id, BAD_INPUT, will_retry=False)
        assert started(store, lease, attempt.job_digest).number == 2

    def test_states_follow_the_kind_of_failure(self, store: Store) -> None:
        lease = driven(store)
        expected = {
            FailureClass.CANCELLED: AttemptState.CANCELLED,
            FailureClass.LOST_NODE: AttemptState.LOST,
            FailureClass.OUT_OF_MEMORY: AttemptState.FAILED,
        }
        for kind in expected:
            attempt = started(store, lease, build_job().digest)
            store.fail_attempt(attempt.id, Failure(failure_class=kind, message="x"), will_retry=True)
        assert [a.state for a in store.attempts(build_job().digest)] == list(expected.values())
        assert {f.failure_class: f.count for f in store.failures(lease.run_id)} == dict.fromkeys(expected, 1)

    def test_unknown_attempts_are_named(self, store: Store) -> None:
        with pytest.raises(RunError, match="no attempt x"):
            store.fail_attempt("x", BAD_INPUT, will_retry=False)
        with pytest.raises(RunError, match="no attempt x"):
            store.finish_attempt("x", build_outcome(build_job()))

    def test_the_database_itself_refuses_a_second_live_attempt(self, store: Store) -> None:
        lease = driven(store)
        attempt = started(store, lease, build_job().digest)
        values = attempt.model_dump() | {"id": "forged", "number": 2}

        def forge(connection: sa.Connection) -> None:
            from orchestrator.store.tables import attempts

            connection.execute(attempts.insert(), values)

        with pytest.raises(StoreError, match="refused"):
            store._database.write(forge)


class TestOutcomes:
    def test_outcomes_come_back_as_they_were_given(self, store: Store) -> None:
        lease = driven(store)
        build, job = build_job(), eval_job("bbh", (0, 1, 2, 1, 2, 3))
        given = {build.digest: build_outcome(build), job.digest: eval_outcome(job, value=1 / 3, subsets=24)}
        for digest, outcome in given.items():
            assert store.finish_attempt(started(store, lease, digest).id, outcome) is Acceptance.ACCEPTED
        everything = [planned.job.digest for planned in store.run_jobs(lease.run_id)]
        assert store.outcomes(everything) == given
        assert store.done(everything) == set(given)
        assert store.attempts(job.digest)[0].state is AttemptState.SUCCEEDED
        assert store.attempts(job.digest)[0].node == "node-1"
        outcome = given[job.digest]
        assert isinstance(outcome, EvalOutcome)
        assert store.scores([job.digest]) == {job.digest: outcome.evaluation.scores}

    def test_the_same_outcome_twice_is_stored_once(self, store: Store) -> None:
        lease = driven(store)
        job = eval_job()
        attempt = started(store, lease, job.digest)
        outcome = eval_outcome(job)
        for _ in range(2):
            assert store.finish_attempt(attempt.id, outcome) is Acceptance.ACCEPTED
        assert store.outcomes([job.digest]) == {job.digest: outcome}

    def test_a_late_outcome_of_an_attempt_thought_dead_is_taken_once(self, url: str) -> None:
        with Store.open(url, lease_s=0.2) as store:
            old = driven(store)
            job = eval_job()
            late = started(store, old, job.digest)
            time.sleep(0.3)
            new = store.take_lease(old.run_id, "another")
            assert new is not None
            again = started(store, new, job.digest)
            assert store.finish_attempt(late.id, eval_outcome(job, value=0.5)) is Acceptance.ACCEPTED
            assert store.finish_attempt(again.id, eval_outcome(job, value=0.6)) is Acceptance.ALREADY_THERE
            states = [a.state for a in store.attempts(job.digest)]
            assert states == [AttemptState.SUCCEEDED, AttemptState.SUPERSEDED]
            assert store.evaluations([job.digest])[job.digest].result.raw == 0.5

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"suite": "leaderboard-v2"}, "another suite"),
            ({"engine": EngineSpec(kind="vllm", version="1")}, "another engine"),
            ({"benchmark_digest": "x"}, "another benchmark_digest"),
        ],
    )
    def test_an_outcome_that_contradicts_its_job_is_refused_with_the_reason(
        self, store: Store, change: dict[str, object], reason: str
    ) -> None:
        lease = driven(store)
        job = eval_job()
        attempt = started(store, lease, job.digest)
        good = eval_outcome(job)
        wrong = good.model_copy(update={"evaluation": good.evaluation.model_copy(update=change)})
        assert store.finish_attempt(attempt.id, wrong) is Acceptance.REFUSED
        found = store.attempts(job.digest)[0]
        assert found.failure_class is FailureClass.WRONG_RESULT
        assert reason in str(found.message)
        assert store.done([job.digest]) == frozenset()

    def test_outcomes_of_another_kind_benchmark_or_without_a_number_are_refused(self, store: Store) -> None:
        lease = driven(store)
        job, build = eval_job(), build_job()
        not_a_number = eval_outcome(job, value=float("nan"))
        for digest, outcome in (
            (job.digest, eval_outcome(eval_job("ifeval"))),
            (job.digest, build_outcome(build)),
            (job.digest, not_a_number),
            (build.digest, eval_outcome(job)),
            (build.digest, build_outcome(build_job("other"))),
        ):
            assert store.finish_attempt(started(store, lease, digest).id, outcome) is Acceptance.REFUSED
        assert store.outcomes([job.digest, build.digest]) == {}

    def test_a_stderr_that_is_not_a_number_is_none(self, store: Store) -> None:
        lease = driven(store)
        job = eval_job()
        outcome = eval_outcome(job)
        odd = outcome.evaluation.scores[0].model_copy(update={"stderr": float("nan")})
        outcome = outcome.model_copy(
            update={"evaluation": outcome.evaluation.model_copy(update={"scores": (odd,)})}
        )
        store.finish_attempt(started(store, lease, job.digest).id, outcome)
        assert store.scores([job.digest])[job.digest][0].stderr is None

    def test_a_build_whose_artifact_was_evicted_is_built_again(self, store: Store) -> None:
        lease = driven(store)
        finish_all(store, lease)
        build, evaluated = build_job(), eval_job()
        assert store.forget_builds([build.digest, evaluated.digest, "unknown"]) == 1
        assert store.done([build.digest, evaluated.digest]) == {evaluated.digest}
        again = store.take_lease(lease.run_id, "me", reopen=True)
        assert again is not None
        assert started(store, again, build.digest).number == 2

    def test_measured_work_is_that_of_evaluations_that_nothing_cut_short(self, store: Store) -> None:
        lease = driven(store)
        path = (0, 1, 2, 1, 2, 3)
        for job, seconds, replayed in (
            (eval_job(), 2.0, 0),
            (eval_job("bbh", path), 4.0, 0),
            (eval_job("bbh", built="built"), 9.0, 1),
        ):
            outcome = eval_outcome(job)
            measured = outcome.evaluation.model_copy(update={"duration_s": seconds, "n_replayed": replayed})
            outcome = outcome.model_copy(update={"evaluation": measured})
            store.finish_attempt(started(store, lease, job.digest).id, outcome)
        base = Workload("smoke", "bbh", 20, 135_000_000 + N_DEMO - 1, EngineKind.TRANSFORMERS)
        expected = [(base, 2.0), (base._replace(parameters=135_000_001), 4.0)]
        for run_id in (None, lease.run_id):
            work = store.measured_work(run_id)
            assert [(w.workload, w.duration_s) for w in work] == expected
            assert not any(w.on_gpu for w in work)
        assert store.measured_work("unknown") == ()

    def test_work_is_open_until_it_runs(self, store: Store) -> None:
        lease = driven(store)
        before = {w.workload.benchmark: w.count for w in store.open_work(lease.run_id) if w.engine is None}
        assert before == {"build": 1}
        assert sum(w.count for w in store.open_work(lease.run_id)) == 7
        assert len({w.engine for w in store.open_work(lease.run_id) if w.engine}) == 2
        attempt = started(store, lease, eval_job().digest)
        (running,) = store.running_jobs(lease.run_id)
        assert (running.job_digest, running.worker) == (eval_job().digest, attempt.id)
        assert running.workload.benchmark == "bbh"
        assert running.elapsed_s >= 0
        assert sum(w.count for w in store.open_work(lease.run_id)) == 6
        store.fail_attempt(attempt.id, BAD_INPUT, will_retry=True)
        assert sum(w.count for w in store.open_work(lease.run_id)) == 7
        again = started(store, lease, eval_job().digest)
        store.fail_attempt(again.id, BAD_INPUT, will_retry=False)
        assert sum(w.count for w in store.open_work(lease.run_id)) == 6
        assert store.running_jobs(lease.run_id) == ()
        finish_build = started(store, lease, build_job().digest)
        store.finish_attempt(finish_build.id, build_outcome(build_job()))
        assert sum(w.count for w in store.open_work(lease.run_id)) == 5

    def test_nothing_given_nothing_found(self, store: Store) -> None:
        assert store.outcomes([]) == {}
        assert store.done([]) == frozenset()
        assert store.scores(["unknown"]) == {}
        assert store.evaluations(["unknown"]) == {}
        assert store.protocols(["unknown"]) == {}

    def test_any_number_of_jobs_can_be_asked_for(self, store: Store) -> None:
        assert store.done(str(number) for number in range(100_000)) == frozenset()


def test_pace_is_over_the_age_of_a_young_run(url: str) -> None:
    with Store.open(url) as store:
        lease = driven(store)
        store.finish_attempt(started(store, lease, build_job().digest).id, build_outcome(build_job()))
    with Pages.open(url, read_only=True) as pages:
        assert isinstance(pages, Pages)
        pace = pages.pace(lease.run_id)
    assert pace.jobs == 1
    assert 1.0 <= pace.window_s < 60.0, "not ten minutes"
