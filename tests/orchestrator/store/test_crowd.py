"""Eight drivers, each with its own run, and four readers on one store: no error, no lost row.

Half a minute by default; MERGEBOARD_CROWD_S=300 is the full length.
"""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

import pytest

from orchestrator.store import Store
from orchestrator.store.leaderboard import LeaderboardQuery
from orchestrator.store.records import AttemptRecord, NotStarted, RunState
from tests.support.store_data import N_DEMO, demo_run, outcome_of
from tests.support.store_processes import ready, start, together

DURATION_S = float(os.environ.get("MERGEBOARD_CROWD_S", "30"))


def drive_runs(url: str, name: str, duration_s: float, report: Connection) -> None:
    """One run after another until time is up; some jobs are this driver's own, the rest everybody's. Reports run ids."""
    done: list[str] = []
    with Store.open(url) as store:
        ready(report)
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            run, candidates, planned = demo_run(f"{name} {len(done)}")
            store.create_run(run, candidates, planned, owner=name)
            lease = store.take_lease(run.id, name)
            assert lease is not None
            waiting = [item.job for item in planned]
            while waiting:
                job = waiting.pop(0)
                attempt = store.start_attempt(lease, job.digest)
                if isinstance(attempt, AttemptRecord):
                    assert store.renew(lease, [attempt.id]).held
                    store.finish_attempt(attempt.id, outcome_of(job))
                elif attempt is NotStarted.HELD:
                    # Another driver is at it; a scheduler asks again after two seconds.
                    waiting.append(job)
                    time.sleep(0.05)
            assert store.finish_run(lease, RunState.DONE)
            done.append(run.id)
    report.send(done)


def read_all(url: str, duration_s: float, report: Connection) -> None:
    """What the dashboard reads, until time is up; every answer must be whole. Reports how often."""
    rounds = 0
    with Store.open(url, read_only=True) as store:
        ready(report)
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            for run in store.runs(limit=10):
                progress = store.progress(run.id)
                assert 0 <= progress.done <= progress.total == 7
                page = store.leaderboard(LeaderboardQuery(run_id=run.id, limit=5))
                assert page.total == N_DEMO
                store.usage(run.id)
            rounds += 1
    report.send(rounds)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_eight_drivers_and_four_readers(url: str) -> None:
    with Store.open(url):
        pass
    crowd = [start(drive_runs, url, f"driver-{number}", DURATION_S) for number in range(8)]
    crowd += [start(read_all, url, DURATION_S) for _ in range(4)]
    together(crowd)
    reports = [report.recv() for _, report in crowd]
    for process, _ in crowd:
        process.join(60)
        assert process.exitcode == 0
    ended = [run for runs in reports[:8] for run in runs]
    with Store.open(url, create=False) as store:
        assert len(set(ended)) == len(ended)
        for run_id in ended:
            assert store.run(run_id).state is RunState.DONE
            assert store.progress(run_id).done == 7
        assert not store.running_attempts()
    print(
        f"\n{url.split(':', maxsplit=1)[0]}: {len(ended)} runs by 8 drivers, {sum(reports[8:])} rounds of 4 readers in {DURATION_S:.0f} s"
    )
