"""Questions over many rows: progress, leaderboards, candidates across runs."""

from __future__ import annotations

import pytest

from orchestrator.store import Store
from orchestrator.store.leaderboard import CandidateScores, LeaderboardPage, LeaderboardQuery, SortKey
from orchestrator.store.records import AttemptRecord, Failure, FailureClass, JobCounts, RunLease
from tests.support.store_data import (
    build_job,
    candidate_name,
    demo_run,
    eval_job,
    eval_outcome,
    outcome_of,
    sweep_of_paths,
)


def grid(store: Store, layers: int = 3) -> RunLease:
    """A small grid of layer paths, all scored: candidate p has p hundredths in bbh, and less in ifeval the longer it is."""
    run, candidates, planned = sweep_of_paths(layers)
    store.create_run(run, candidates, planned, owner="me")
    lease = store.take_lease(run.id, "me")
    assert lease is not None
    for item in planned:
        (position,) = item.candidates
        job = item.job
        assert job.kind == "eval"
        if job.benchmark == "bbh" or (job.benchmark == "ifeval" and position):
            value = position / 100 if job.benchmark == "bbh" else 0.9 - position / 100
            attempt = store.start_attempt(lease, job.digest)
            assert isinstance(attempt, AttemptRecord)
            store.finish_attempt(attempt.id, eval_outcome(job, value=value))
    return lease


def positions(page: LeaderboardPage) -> list[int]:
    return [row.candidate.position for row in page.rows]


class TestProgress:
    def test_jobs_are_counted_where_they_stand(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned, owner="me")
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        assert store.progress(run.id) == JobCounts(run_id=run.id, total=7, done=0, running=0, failed=0)
        attempts = [store.start_attempt(lease, item.job.digest) for item in planned[:4]]
        failure = Failure(failure_class=FailureClass.UNKNOWN, message="x")
        for attempt, what in zip(attempts, ("done", "run", "fail", "retry"), strict=True):
            assert isinstance(attempt, AttemptRecord)
            if what == "done":
                store.finish_attempt(attempt.id, outcome_of(planned[0].job))
            elif what != "run":
                store.fail_attempt(attempt.id, failure, will_retry=what == "retry")
        progress = store.progress(run.id)
        assert progress == JobCounts(run_id=run.id, total=7, done=1, running=1, failed=1)
        assert progress.waiting == 4

    def test_a_job_that_failed_for_good_and_is_tried_again_by_a_resumed_run_counts_as_running(
        self, store: Store
    ) -> None:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned, owner="me")
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        first = store.start_attempt(lease, build_job().digest)
        assert isinstance(first, AttemptRecord)
        store.fail_attempt(
            first.id, Failure(failure_class=FailureClass.BAD_INPUT, message="x"), will_retry=False
        )
        assert store.progress(run.id).failed == 1
        second = store.start_attempt(lease, build_job().digest)
        assert isinstance(second, AttemptRecord)
        progress = store.progress(run.id)
        assert (progress.failed, progress.running) == (0, 1)
        store.finish_attempt(second.id, outcome_of(build_job()))
        assert store.progress(run.id).failed == 0


class TestLeaderboards:
    def test_rows_carry_their_evaluations_in_the_order_of_the_plan(self, store: Store) -> None:
        lease = grid(store)
        page = store.leaderboard(LeaderboardQuery(run_id=lease.run_id))
        assert page.total == 7
        assert positions(page) == list(range(7))
        row = page.rows[3]
        assert [e.result.benchmark for e in row.evaluations] == ["ifeval", "bbh"]
        assert row.evaluations[1].result.normalized == pytest.approx(3.0)
        assert row.evaluations[1].layer_path == row.candidate.layer_path
        assert store.candidate_scores(lease.run_id, 3) == row

    @pytest.mark.parametrize(
        ("sort", "benchmark", "descending", "expected"),
        [
            (SortKey.BENCHMARK, "bbh", True, [6, 5, 4, 3, 2, 1, 0]),
            # The base has no ifeval: it comes last whichever way one sorts.
            (SortKey.BENCHMARK, "ifeval", True, [1, 2, 3, 4, 5, 6, 0]),
            (SortKey.BENCHMARK, "ifeval", False, [6, 5, 4, 3, 2, 1, 0]),
            # Its mean is over one benchmark of two: another quantity, after the others' means.
            (SortKey.MEAN, None, False, [1, 2, 3, 4, 5, 6, 0]),
            (SortKey.LAYERS, None, True, [6, 5, 4, 3, 2, 1, 0]),
            (SortKey.PARAMETERS, None, False, [0, 1, 2, 3, 4, 5, 6]),
            (SortKey.NAME, None, False, [0, 1, 2, 3, 4, 5, 6]),
            (SortKey.POSITION, None, True, [6, 5, 4, 3, 2, 1, 0]),
        ],
    )
    def test_every_order(
        self, store: Store, sort: SortKey, benchmark: str | None, descending: bool, expected: list[int]
    ) -> None:
        lease = grid(store)
        query = LeaderboardQuery(run_id=lease.run_id, sort=sort, benchmark=benchmark, descending=descending)
        assert positions(store.leaderboard(query)) == expected
        pages = [query.model_copy(update={"limit": 3, "offset": offset}) for offset in (0, 3, 6)]
        assert [p for page in pages for p in positions(store.leaderboard(page))] == expected

    def test_rows_can_be_limited_to_candidates_and_candidates_left_out(self, store: Store) -> None:
        lease = grid(store)
        query = LeaderboardQuery(run_id=lease.run_id, positions=(1, 3, 5, 6), without=(3,), descending=True)
        page = store.leaderboard(query)
        assert (page.total, positions(page)) == (3, [6, 5, 1])
        assert store.leaderboard(query.model_copy(update={"positions": ()})).total == 0

    def test_search_suite_and_engine_filter(self, store: Store) -> None:
        lease = grid(store)
        found = store.leaderboard(LeaderboardQuery(run_id=lease.run_id, search="DATE 5"))
        assert (found.total, positions(found)) == (1, [5])
        # What a person types is text, never a pattern.
        assert store.leaderboard(LeaderboardQuery(run_id=lease.run_id, search="%")).total == 0
        other = store.leaderboard(LeaderboardQuery(run_id=lease.run_id, suite="another", sort=SortKey.MEAN))
        assert other.total == 7
        assert all(row.evaluations == () for row in other.rows)
        engine = store.leaderboard(
            LeaderboardQuery(run_id=lease.run_id, engine_digest=eval_job().engine.digest)
        )
        assert len(engine.rows[3].evaluations) == 2


class TestCandidates:
    def test_found_by_name_or_digest_newest_run_first(self, store: Store) -> None:
        for name in ("first", "second"):
            run, candidates, planned = demo_run(name)
            store.create_run(run, candidates, planned)
        by_name = store.find_candidates(candidate_name(1))
        assert [found.run_name for found in by_name] == ["second", "first"]
        by_digest = store.find_candidates("recipe-built")
        assert [found.candidate.position for found in by_digest] == [2, 2]
        assert store.find_candidates("nobody") == ()
        assert len(store.find_candidates(candidate_name(1), limit=1)) == 1

    def test_a_candidate_without_scores(self, store: Store) -> None:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned)
        assert store.candidate_scores(run.id, 1) == CandidateScores(candidate=candidates[1], evaluations=())
