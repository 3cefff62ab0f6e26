"""What every store must do, on SQLite and on PostgreSQL alike: runs, leases, attempts, outcomes."""

from __future__ import annotations

import time

import pytest

from orchestrator.errors import RunError, StoreError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.owners import new_owner
from orchestrator.store.records import AttemptState, NotStarted, PlannedJob, Protocol, RunState
from tests.support.store_data import (
    build_job,
    build_outcome,
    candidate,
    demo_run,
    eval_job,
    eval_outcome,
    new_run,
    outcome_of,
)
from tests.support.store_work import BAD_INPUT, driven, finish_all, started


class TestRuns:
    def test_a_run_comes_back_as_it_was_written(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned)
        found = store.run(run.id)
        assert {name: getattr(found, name) for name in type(run).model_fields} == run.model_dump() | {
            "provenance": run.provenance
        }
        assert found.state is RunState.WAITING
        assert found.created_at.utcoffset().total_seconds() == 0  # type: ignore[union-attr] # aware by its type
        assert abs(found.created_at.timestamp() - time.time()) < 60
        assert store.candidates(run.id) == tuple(candidates)
        assert store.run_jobs(run.id) == tuple(planned)

    def test_a_run_has_its_id_and_every_beginning_that_is_its_own(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        for run_id in ("my_sweep-1a2b", "my_sweep-1a2c", "my_sweep-1", "mysweep-9"):
            store.create_run(run.model_copy(update={"id": run_id}), candidates, planned)
        assert store.find_run("my_sweep-1a2b") == "my_sweep-1a2b"
        assert store.find_run("my_sweep-1a2c") == "my_sweep-1a2c"
        assert store.find_run("my_sweep-1") == "my_sweep-1"
        assert store.find_run("mys") == "mysweep-9"
        with pytest.raises(
            RunError, match=r"Several runs begin with 'my_s': my_sweep-1.*give more of the id"
        ):
            store.find_run("my_s")
        for nothing in ("", "%", "my-sweep", "MYS", "my_sweep-1a2b3"):
            with pytest.raises(RunError, match="There is no run"):
                store.find_run(nothing)

    def test_writing_a_run_again_changes_nothing(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned)
        before = store.snapshot()
        store.create_run(run, candidates, planned, owner="someone")
        assert store.snapshot() == before
        assert store.run(run.id).owner is None

    def test_a_run_is_written_whole_or_not_at_all(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        with pytest.raises(StoreError, match="refused"):
            store.create_run(run, [*candidates, candidates[0]], planned)
        assert store.runs() == ()
        assert store.done([planned[0].job.digest]) == frozenset()
        store.create_run(run, candidates, planned)
        assert len(store.run_jobs(run.id)) == 7

    def test_a_run_that_lacks_a_job_it_needs_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreError, match="recipe-built"):
            store.create_run(
                new_run(), [candidate(0)], [PlannedJob(job=eval_job(built="built"), candidates=(0,))]
            )

    def test_two_candidates_may_share_a_job_and_two_runs_may_find_its_weights_in_different_places(
        self, store: Store
    ) -> None:
        live = eval_job("bbh", (0, 1, 1, 2))
        built = live.model_copy(
            update={
                "place": build_place(),
                "live_layers": None,
                "tuning": live.tuning.model_copy(update={"threads": 2}),
            }
        )
        assert live.digest == built.digest
        first, second = new_run("live"), new_run("built")
        store.create_run(first, [candidate(0), candidate(1)], [PlannedJob(job=live, candidates=(0, 1))])
        store.create_run(
            second,
            [candidate(0)],
            [PlannedJob(job=build_job(), candidates=(0,)), PlannedJob(job=built, candidates=(0,))],
        )
        assert store.run_jobs(first.id)[0] == PlannedJob(job=live, candidates=(0, 1))
        assert store.run_jobs(second.id)[1].job == built

    def test_unknown_runs_are_named(self, store: Store) -> None:
        with pytest.raises(RunError, match="no run nowhere"):
            store.run("nowhere")
        with pytest.raises(RunError, match="nowhere"):
            store.take_lease("nowhere", "me")

    def test_runs_are_listed_newest_first_by_state_and_sweep(self, store: Store) -> None:
        old = driven(store, name="old")
        time.sleep(0.01)
        new = new_run("new", sweep_digest="another")
        store.create_run(new, [candidate(0)], [])
        assert [run.name for run in store.runs()] == ["new", "old"]
        assert [run.name for run in store.runs(limit=1, offset=1)] == ["old"]
        assert [run.name for run in store.runs(states=[RunState.RUNNING])] == ["old"]
        assert [run.name for run in store.runs(states=[RunState.WAITING, RunState.DONE])] == ["new"]
        assert [run.name for run in store.runs(sweep_digest="another")] == ["new"]
        store.release_lease(old)
        assert [run.name for run in store.runs(states=[RunState.INTERRUPTED])] == ["old"]
        assert store.run(old.run_id).state is RunState.INTERRUPTED


def build_place():  # type: ignore[no-untyped-def] # a short cut of one test
    return eval_job(built="built").place


class TestLeases:
    def test_one_driver_at_a_time(self, store: Store) -> None:
        lease = driven(store)
        assert store.take_lease(lease.run_id, "another") is None
        assert store.take_lease(lease.run_id, "me") == lease
        assert store.run(lease.run_id).state is RunState.RUNNING

    def test_an_expired_lease_goes_to_whoever_comes_and_the_old_driver_notices(self, url: str) -> None:
        with Store.open(url, lease_s=0.2) as store:
            old = driven(store)
            attempt = started(store, old, build_job().digest)
            time.sleep(0.3)
            assert store.run(old.run_id).state is RunState.INTERRUPTED
            new = store.take_lease(old.run_id, "another")
            assert new is not None
            assert new.token == old.token + 1
            assert not store.renew(old).held
            assert store.start_attempt(old, eval_job().digest) is NotStarted.LEASE_LOST
            assert not store.finish_run(old, RunState.DONE)
            assert not store.release_lease(old)
            assert store.attempts(attempt.job_digest)[0].state is AttemptState.LOST
            assert started(store, new, attempt.job_digest).number == 2

    def test_renewing_keeps_a_lease_and_its_attempts_alive(self, url: str) -> None:
        with Store.open(url, lease_s=0.4) as store:
            lease = driven(store)
            attempt = started(store, lease, build_job().digest)
            for _ in range(4):
                time.sleep(0.2)
                assert store.renew(lease, [attempt.id]).lost == ()
            assert store.take_lease(lease.run_id, "another") is None
            heartbeat = store.attempts(attempt.job_digest)[0].heartbeat_at
            assert heartbeat > attempt.heartbeat_at
            assert store.renew(lease, ["gone", attempt.id]).lost == ("gone",)

    def test_the_lease_of_a_driver_known_to_be_dead_need_not_expire(self, store: Store) -> None:
        lease = driven(store, owner="dead")
        assert store.take_lease(lease.run_id, "me", instead_of="someone else") is None
        assert store.take_lease(lease.run_id, "me", instead_of="dead") is not None

    def test_a_driver_that_came_back_after_another_is_not_the_driver(self, store: Store) -> None:
        old = driven(store, owner="a")
        assert store.take_lease(old.run_id, "b", instead_of="a") is not None
        back = store.take_lease(old.run_id, "a", instead_of="b")
        assert back is not None
        assert not store.renew(old).held
        assert store.renew(back).held

    def test_an_ended_run_is_taken_only_to_reopen_it(self, store: Store) -> None:
        lease = driven(store)
        assert store.finish_run(lease, RunState.FAILED)
        assert store.finish_run(lease, RunState.FAILED)
        ended = store.run(lease.run_id)
        assert (ended.state, ended.owner) == (RunState.FAILED, None)
        assert ended.ended_at is not None
        assert store.take_lease(lease.run_id, "me") is None
        assert store.take_lease(lease.run_id, "me", reopen=True) is not None
        assert store.run(lease.run_id).state is RunState.RUNNING
        with pytest.raises(ValueError, match="interrupted"):
            store.finish_run(lease, RunState.INTERRUPTED)


class TestCancelling:
    def test_a_driver_hears_of_it_at_its_next_renewal_and_starts_nothing_more(self, store: Store) -> None:
        lease = driven(store)
        attempt = started(store, lease, build_job().digest)
        assert store.cancel_run(lease.run_id).state is RunState.RUNNING
        assert store.renew(lease).cancel_requested
        assert store.start_attempt(lease, eval_job().digest) is NotStarted.RUN_CANCELLED
        assert store.finish_run(lease, RunState.CANCELLED)
        assert store.attempts(attempt.job_digest)[0].state is AttemptState.CANCELLED
        asked = store.run(lease.run_id).cancel_requested_at
        assert store.cancel_run(lease.run_id).cancel_requested_at == asked

    def test_a_run_that_nobody_drives_ends_at_once_and_can_be_resumed(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned)
        assert store.cancel_run(run.id).state is RunState.CANCELLED
        lease = store.take_lease(run.id, "me", reopen=True)
        assert lease is not None
        assert not store.renew(lease).cancel_requested

    def test_a_run_whose_driver_died_counts_as_cancelled_when_its_lease_is_over(self, url: str) -> None:
        with Store.open(url, lease_s=0.2) as store:
            lease = driven(store)
            assert store.cancel_run(lease.run_id).state is RunState.RUNNING
            time.sleep(0.3)
            assert store.run(lease.run_id).state is RunState.CANCELLED
            assert [run.id for run in store.runs(states=[RunState.CANCELLED])] == [lease.run_id]
            assert store.runs(states=[RunState.INTERRUPTED, RunState.WAITING, RunState.RUNNING]) == ()
            # Whoever looks for runs that were cut short leaves it alone; whoever resumes it, resumes it.
            assert store.take_lease(lease.run_id, "another") is None
            again = store.take_lease(lease.run_id, "another", reopen=True)
            assert again is not None
            assert not store.renew(again).cancel_requested

    def test_a_driver_of_this_machine_that_is_gone_is_not_waited_for(self, store: Store) -> None:
        gone = new_owner().rsplit("-", 1)[0].rsplit(":", 1)[0] + ":1-gone"
        lease = driven(store, owner=gone)
        assert store.cancel_run(lease.run_id).state is RunState.CANCELLED

    def test_what_is_finished_is_kept(self, store: Store) -> None:
        lease = driven(store)
        job = build_job()
        store.finish_attempt(started(store, lease, job.digest).id, build_outcome(job))
        store.cancel_run(lease.run_id)
        store.finish_run(lease, RunState.CANCELLED)
        assert store.done([job.digest]) == {job.digest}


class TestIdentity:
    def test_a_protocol_and_what_a_run_adds_make_up_a_whole_job(self) -> None:
        """A field that is added to EvalJob has to be given a place in the store."""
        elsewhere = {
            "kind",
            "weights_digest",
            "layer_path",
            "place",
            "live_layers",
            "tuning",
            "alone",
            "decide",
            "live_merge",
        }
        assert set(EvalJob.model_fields) == set(Protocol.model_fields) | elsewhere

    def test_protocols_say_how_they_differ(self, store: Store) -> None:
        lease = driven(store)
        job = eval_job()
        (stored,) = [p for p in store.protocols([Protocol.of(job).digest]).values()]
        assert stored == Protocol.of(job)
        other = job.model_copy(
            update={
                "settings": job.settings.model_copy(update={"limit": 7}),
                "engine": job.engine.model_copy(update={"dtype": "bfloat16"}),
                "scorer": "scorer=2",
            }
        )
        assert set(stored.differences(Protocol.of(other))) == {"engine.dtype", "settings.limit", "scorer"}
        assert stored.differences(stored) == ()
        assert lease.token == 1


class TestSnapshots:
    def test_equal_results_by_different_histories_are_equal(self, url: str, tmp_path: object) -> None:
        with (
            Store.open(url, lease_s=0.2) as disturbed,
            Store.open(f"sqlite:///{tmp_path}/calm.sqlite") as calm,
        ):
            finish_all(calm, driven(calm))
            lease = driven(disturbed)
            job = build_job()
            lost = started(disturbed, lease, job.digest)
            time.sleep(0.3)
            taken = disturbed.take_lease(lease.run_id, "another")
            assert taken is not None
            failed = started(disturbed, taken, eval_job().digest)
            disturbed.fail_attempt(failed.id, BAD_INPUT, will_retry=True)
            assert disturbed.snapshot() != calm.snapshot()
            disturbed.finish_attempt(lost.id, build_outcome(job))
            for planned in reversed(disturbed.run_jobs(lease.run_id)[1:]):
                attempt = started(disturbed, taken, planned.job.digest)
                outcome = outcome_of(planned.job)
                disturbed.finish_attempt(attempt.id, outcome)
            disturbed.finish_run(taken, RunState.DONE)
            assert disturbed.snapshot() == calm.snapshot()

    def test_another_score_is_another_snapshot(self, store: Store) -> None:
        lease = driven(store)
        before = store.snapshot()
        job = eval_job()
        store.finish_attempt(started(store, lease, job.digest).id, eval_outcome(job))
        assert store.snapshot() != before
