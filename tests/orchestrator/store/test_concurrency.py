"""Several processes on one store: races, readers beside writers, kill -9, a server that goes away and comes back."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.errors import StoreError
from orchestrator.store import Store
from orchestrator.store.records import Acceptance, AttemptRecord, AttemptState, RunState
from tests.support import store_processes as processes
from tests.support.pg import PostgresForTests
from tests.support.store_data import N_DEMO, demo_run, outcome_of

_END_S = 60.0


def test_a_store_is_made_once_by_whoever_comes_first(url: str) -> None:
    crowd = [processes.start(processes.open_new, url) for _ in range(4)]
    processes.together(crowd)
    for process, report in crowd:
        process.join(_END_S)
        assert (process.exitcode, report.recv()) == (0, 0)


def test_a_run_that_several_begin_at_once_is_there_once_and_has_one_driver(url: str) -> None:
    Store.open(url).close()
    crowd = [processes.start(processes.create_and_take, url, "a-run") for _ in range(4)]
    processes.together(crowd)
    drivers = [report.recv() for _, report in crowd]
    for process, _ in crowd:
        process.join(_END_S)
    assert sorted(drivers) == [False, False, False, True]
    with Store.open(url) as store:
        assert len(store.runs()) == 1
        assert len(store.run_jobs("a-run")) == 7


def test_jobs_that_runs_share_are_done_once_while_readers_read(url: str) -> None:
    Store.open(url).close()
    drivers = [processes.start(processes.drive_grid, url, f"driver {number}") for number in range(3)]
    reader, reading = processes.start(processes.read_until_told, url)
    processes.together([*drivers, (reader, reading)])
    done: list[str] = []
    for process, report in drivers:
        done += report.recv() if report.poll(_END_S) else []
        process.join(_END_S)
        assert process.exitcode == 0
    reading.send("stop")
    assert reading.recv() > 0
    reader.join(_END_S)
    assert reader.exitcode == 0
    with Store.open(url) as store:
        jobs = [item.job.digest for item in store.run_jobs(store.runs()[0].id)]
        assert Counter(done) == Counter(jobs)
        assert {run.state for run in store.runs()} == {RunState.DONE}
        assert all(len(store.attempts(digest)) == 1 for digest in jobs)
        assert all(len(scores) == 2 for scores in store.scores(jobs).values())


def test_kill_9_between_an_outcome_and_its_commit_leaves_nothing_behind(url: str) -> None:
    run, candidates, planned = demo_run()
    with Store.open(url) as store:
        store.create_run(run, candidates, planned, owner="me")
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        before = store.snapshot()
        process, report = processes.start(processes.die_while_finishing, url, lease)
        attempt_id = report.recv()
        process.join(_END_S)
        assert process.exitcode == -9
        assert store.snapshot() == before
        job = planned[1].job
        assert store.done([job.digest]) == frozenset()
        assert store.attempts(job.digest)[0].state is AttemptState.RUNNING
        again = store.take_lease(run.id, "another", instead_of="me")
        assert again is not None
        attempt = store.start_attempt(again, job.digest)
        assert isinstance(attempt, AttemptRecord)
        assert attempt.number == 2
        assert store.finish_attempt(attempt.id, outcome_of(job)) is Acceptance.ACCEPTED
        assert store.finish_attempt(attempt_id, outcome_of(job)) is Acceptance.ALREADY_THERE


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_at_any_moment_leaves_a_store_that_another_goes_on_with(url: str, seed: int) -> None:
    Store.open(url).close()
    process, report = processes.start(processes.drive_demo, url, "victim")
    run_id = report.recv()
    time.sleep(random.Random(seed).uniform(0.0, 0.5))
    process.kill()
    process.join(_END_S)
    while report.poll():
        try:
            run_id = report.recv()
        except EOFError:
            break
    with Store.open(url, read_only=True) as reader:
        consistent(reader)
    with Store.open(url) as store:
        lease = store.take_lease(run_id, "me", instead_of="victim")
        assert lease is not None
        assert store.running_attempts(run_id) == ()
        for item in store.run_jobs(run_id):
            attempt = store.start_attempt(lease, item.job.digest)
            if isinstance(attempt, AttemptRecord):
                assert store.finish_attempt(attempt.id, outcome_of(item.job)) is Acceptance.ACCEPTED
        assert store.finish_run(lease, RunState.DONE)
        assert store.progress(run_id).done == 7
        consistent(store)


def test_a_writer_waits_for_another_and_a_reader_for_nobody(url: str) -> None:
    run, candidates, planned = demo_run()
    with Store.open(url) as store:
        process, report = processes.start(processes.hold_the_store, url, 3.0)
        assert report.recv() == "held"
        assert store.runs() == ()
        assert not report.poll(), "the reader waited for the writer's end"
        store.create_run(run, candidates, planned)
        assert len(store.runs()) == 1
        process.join(_END_S)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_postgresql_server_that_comes_back_is_waited_for(postgres: PostgresForTests, how: str) -> None:
    url = postgres.new_database()
    run, candidates, planned = demo_run()
    with Store.open(url, patience_s=60.0) as store:
        store.create_run(run, candidates, planned, owner="me")
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        attempt = store.start_attempt(lease, planned[1].job.digest)
        assert isinstance(attempt, AttemptRecord)
        getattr(postgres, how)()
        starter = threading.Timer(1.0, postgres.start)
        starter.start()
        assert store.finish_attempt(attempt.id, outcome_of(planned[1].job)) is Acceptance.ACCEPTED
        assert store.renew(lease).held
        assert len(store.outcomes([planned[1].job.digest])) == 1
        starter.join()
        consistent(store)


def test_a_postgresql_server_that_does_not_come_back_is_one_sentence(postgres: PostgresForTests) -> None:
    with Store.open(postgres.new_database(), patience_s=0.5) as store:
        postgres.stop()
        try:
            with pytest.raises(StoreError, match=r"does not answer .*check MERGEBOARD_DATABASE_URL"):
                store.runs()
        finally:
            postgres.start()
        assert store.runs() == ()


def test_a_commit_that_was_not_heard_is_not_done_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks after the commit: the store cannot know, and repeats; nothing is there twice."""
    from orchestrator.store import database

    run, candidates, planned = demo_run()
    deaf = {"next": False}
    whole = database._in_transaction

    def break_after_commit(engine: sa.Engine, work: object) -> object:
        answer = whole(engine, work)  # type: ignore[arg-type] # handed on as it came
        if deaf["next"]:
            deaf["next"] = False
            lost = sa.exc.OperationalError("COMMIT", {}, Exception("gone"))
            lost.connection_invalidated = True
            raise lost
        return answer

    monkeypatch.setattr(database, "_in_transaction", break_after_commit)
    with Store.open(url) as store:
        deaf["next"] = True
        store.create_run(run, candidates, planned, owner="me")
        deaf["next"] = True
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        assert lease.token == 1
        job = planned[1].job
        deaf["next"] = True
        attempt = store.start_attempt(lease, job.digest)
        assert isinstance(attempt, AttemptRecord)
        deaf["next"] = True
        assert store.finish_attempt(attempt.id, outcome_of(job)) is Acceptance.ACCEPTED
        deaf["next"] = True
        assert store.finish_run(lease, RunState.DONE)
        assert len(store.attempts(job.digest)) == 1
        assert len(store.run_jobs(run.id)) == 7


def test_clocks_that_run_differently_never_give_a_job_to_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process's clock jumps ahead by an hour: it takes the lease, the other notices, and the job is done once."""
    from datetime import timedelta

    from orchestrator.store import attempts, runs

    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    run, candidates, planned = demo_run()
    job = planned[1].job
    with Store.open(url) as honest:
        honest.create_run(run, candidates, planned, owner="honest")
        old = honest.take_lease(run.id, "honest")
        assert old is not None
        first = honest.start_attempt(old, job.digest)
        assert isinstance(first, AttemptRecord)
        true_clock = runs.clock
        for module in (runs, attempts):
            monkeypatch.setattr(
                module, "clock", lambda connection: true_clock(connection) + timedelta(hours=1)
            )
        with Store.open(url) as fast:
            new = fast.take_lease(run.id, "fast")
            assert new is not None
            second = fast.start_attempt(new, job.digest)
            assert isinstance(second, AttemptRecord)
            for module in (runs, attempts):
                monkeypatch.setattr(module, "clock", true_clock)
            assert not honest.renew(old).held
            assert honest.finish_attempt(first.id, outcome_of(job)) is Acceptance.ACCEPTED
            assert fast.finish_attempt(second.id, outcome_of(job)) is Acceptance.ALREADY_THERE
            assert fast.renew(new).held
        assert [a.state for a in honest.attempts(job.digest)] == [
            AttemptState.SUCCEEDED,
            AttemptState.SUPERSEDED,
        ]


def consistent(store: Store) -> None:
    """No outcome is there in part, and no run is there in part."""
    for run in store.runs():
        jobs = store.run_jobs(run.id)
        assert len(jobs) == 7
        assert len(store.candidates(run.id)) == N_DEMO
        digests = [item.job.digest for item in jobs]
        evaluated = [item.job.digest for item in jobs if item.job.kind == "eval"]
        done = store.done(digests)
        assert set(store.outcomes(digests)) == done
        assert set(store.scores(evaluated)) == done & set(evaluated)
        for digest in done & set(evaluated):
            assert len(store.scores([digest])[digest]) == 2
            assert AttemptState.SUCCEEDED in {attempt.state for attempt in store.attempts(digest)}
