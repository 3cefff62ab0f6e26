"""How long the store takes for a large sweep; printed, with bounds that a busy machine keeps as well."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from orchestrator.store import Store
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.records import AttemptRecord, RunLease
from tests.support.store_data import eval_outcome, sweep_of_paths


@pytest.mark.slow
def test_a_sweep_of_3241_paths_over_six_benchmarks(store: Store) -> None:
    run, candidates, planned = sweep_of_paths(80)
    assert len(candidates) == 3241
    created_s = _timed(lambda: store.create_run(run, candidates, planned, owner="me"))
    lease = store.take_lease(run.id, "me")
    assert lease is not None
    started_ms, finished_ms = _bookkeeping(store, lease, [item.job for item in planned[:400]])  # type: ignore[misc] # evaluations all
    digests = [item.job.digest for item in planned]
    asked_ms = 1000 * _timed(lambda: store.done(digests))
    counted_ms = 1000 * _timed(lambda: store.progress(run.id))
    query = LeaderboardQuery(run_id=run.id, sort=SortKey.MEAN, descending=True, limit=50)
    page_ms = 1000 * _timed(lambda: store.leaderboard(query))
    print(
        f"\n{store.label.split(':')[0][:12]}: create_run {created_s:.2f} s; start_attempt {started_ms:.1f} ms, "
        f"finish_attempt with 24 scores {finished_ms:.1f} ms (medians of 400); done of {len(digests)} jobs {asked_ms:.0f} ms; "
        f"progress {counted_ms:.0f} ms; first page by mean {page_ms:.0f} ms"
    )
    assert created_s < 30
    assert started_ms + finished_ms < 150
    assert max(asked_ms, counted_ms, page_ms) < 5000


def _bookkeeping(store: Store, lease: RunLease, jobs: list) -> tuple[float, float]:  # type: ignore[type-arg] # evaluation jobs
    started, finished = [], []
    for job in jobs:
        outcome = eval_outcome(job, subsets=24)
        begun = time.perf_counter()
        attempt = store.start_attempt(lease, job.digest)
        started.append(time.perf_counter() - begun)
        assert isinstance(attempt, AttemptRecord)
        attempt_id = attempt.id
        finished.append(_timed(lambda: store.finish_attempt(attempt_id, outcome)))  # noqa: B023 - called at once
    return 1000 * statistics.median(started), 1000 * statistics.median(finished)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
