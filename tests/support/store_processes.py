"""What the processes of `test_store_concurrency.py` do; each is a driver or a reader of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from orchestrator.store import Store, attempts
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.records import AttemptRecord, NotStarted, RunLease, RunState
from tests.support.store_data import demo_run, outcome_of, sweep_of_paths

# Processes of their own, but with the imports done once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def start(
    target: Callable[..., None], *arguments: object
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """A process, and the pipe on which it reports."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*arguments, theirs))
    process.start()
    theirs.close()
    return process, ours


def together(crowd: list[tuple[multiprocessing.process.BaseProcess, Connection]]) -> None:
    """Let processes go on at one moment, once all of them are there."""
    for _, report in crowd:
        assert report.recv() == "ready"
    for _, report in crowd:
        report.send("go")


def ready(report: Connection) -> None:
    """The other side of `together`."""
    report.send("ready")
    report.recv()


def open_new(url: str, report: Connection) -> None:
    """Open a store that may not be there yet, at the same moment as others."""
    ready(report)
    with Store.open(url) as store:
        report.send(len(store.runs()))


def create_and_take(url: str, run_id: str, report: Connection) -> None:
    """Write the same run as others do at the same moment, and try to become its driver."""
    run, candidates, planned = demo_run()
    run = run.model_copy(update={"id": run_id})
    with Store.open(url) as store:
        ready(report)
        store.create_run(run, candidates, planned)
        report.send(store.take_lease(run_id, str(os.getpid())) is not None)


def drive_grid(url: str, name: str, report: Connection) -> None:
    """Drive a run of its own, whose jobs every other driver has as well; reports the jobs that it did itself."""
    run, candidates, planned = sweep_of_paths(3, name)
    with Store.open(url) as store:
        store.create_run(run, candidates, planned, owner=name)
        lease = store.take_lease(run.id, name)
        assert lease is not None
        ready(report)
        mine = []
        waiting = [item.job for item in planned]
        while waiting:
            job = waiting.pop(0)
            attempt = store.start_attempt(lease, job.digest)
            if isinstance(attempt, AttemptRecord):
                store.renew(lease, [attempt.id])
                store.finish_attempt(attempt.id, outcome_of(job))
                mine.append(job.digest)
            elif attempt is NotStarted.HELD:
                waiting.append(job)
        store.finish_run(lease, RunState.DONE)
    report.send(mine)


def read_until_told(url: str, report: Connection) -> None:
    """Read what a dashboard reads until told to stop; every answer must be whole. Reports how often."""
    rounds = 0
    with Store.open(url, read_only=True) as store:
        ready(report)
        while rounds == 0 or not report.poll():
            for run in store.runs():
                progress = store.progress(run.id)
                assert 0 <= progress.done <= progress.total
                page = store.leaderboard(LeaderboardQuery(run_id=run.id, sort=SortKey.MEAN, limit=5))
                digests = [e.job_digest for row in page.rows for e in row.evaluations]
                assert all(len(scores) == 2 for scores in store.scores(digests).values())
            rounds += 1
    report.send(rounds)


def drive_demo(url: str, owner: str, report: Connection) -> None:
    """Drive the demo's run for ever, again and again as a new one; killed from outside."""
    with Store.open(url, lease_s=0.5) as store:
        for number in range(1000):
            run, candidates, planned = demo_run(f"{owner} {number}")
            store.create_run(run, candidates, planned, owner=owner)
            report.send(run.id)
            lease = store.take_lease(run.id, owner)
            assert lease is not None
            for item in planned:
                attempt = store.start_attempt(lease, item.job.digest)
                if isinstance(attempt, AttemptRecord):
                    store.finish_attempt(attempt.id, outcome_of(item.job))
                    store.forget_builds([item.job.digest])


def die_while_finishing(url: str, lease: RunLease, report: Connection) -> None:
    """End by kill -9 between the outcome's first row and its commit."""
    with Store.open(url) as store:
        job = store.run_jobs(lease.run_id)[1].job
        attempt = store.start_attempt(lease, job.digest)
        assert isinstance(attempt, AttemptRecord)
        whole = attempts._insert_details

        def die(*arguments: object) -> None:
            whole(*arguments)  # type: ignore[arg-type] # handed on as they came
            os.kill(os.getpid(), signal.SIGKILL)

        attempts._insert_details = die
        report.send(attempt.id)
        store.finish_attempt(attempt.id, outcome_of(job))


def hold_the_store(url: str, duration_s: float, report: Connection) -> None:
    """Keep a writing transaction open."""
    with Store.open(url) as store:

        def work(connection: object) -> None:
            report.send("held")
            time.sleep(duration_s)
            report.send("ending")

        store._database.write(work)
