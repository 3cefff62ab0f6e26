"""How long the store takes for every question that a page of the dashboard asks about the newest run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.compare.run_comparisons import result_of_candidate
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.pages import JobState, Pages


def time_queries(homes: list[Path], rounds: int, position: int) -> None:
    """Every question that a page asks, about the newest run of each store; the stores take turns.

    `position` is that of a candidate of the run."""
    stores = [
        Pages.open(f"sqlite:///{home / 'store.sqlite'}", create=False, read_only=True) for home in homes
    ]
    asked = [_questions(pages, position) for pages in stores if isinstance(pages, Pages)]
    for name in asked[0]:
        took: list[list[float]] = [[] for _ in asked]
        for number in range(rounds + 1):
            for questions, seconds in zip(asked, took, strict=True):
                start = time.perf_counter()
                questions[name]()
                if number:
                    seconds.append(time.perf_counter() - start)
        medians = [statistics.median(seconds) for seconds in took]
        more = f"   times {medians[-1] / medians[0]:.1f}" if len(medians) > 1 else ""
        print(f"{name:32s} " + "   ".join(f"{m:7.4f} s" for m in medians) + more, flush=True)
    for pages in stores:
        pages.close()


def _questions(pages: Pages, position: int) -> dict[str, Callable[[], object]]:
    run = pages.runs(limit=1)[0]
    columns = pages.columns(run.id)
    first, base = columns[0], pages.base_of(run.id)
    candidate = pages.candidate(run.id, position)
    assert base is not None
    assert candidate is not None
    some = pages.job_list(run.id, limit=1)[1][0].digest
    board = LeaderboardQuery(
        run_id=run.id, suite=first.suite, engine_digest=first.engine_digest, limit=25, descending=True
    )
    by_benchmark = board.model_copy(
        update={"sort": SortKey.BENCHMARK, "benchmark": first.benchmark, "offset": 1000}
    )
    return {
        "overview: all runs": lambda: pages.runs(limit=200),
        "overview: progress": lambda: pages.progress(run.id),
        "overview: GPU-hours": lambda: pages.usage(run.id),
        "overview: pace": lambda: pages.pace(run.id),
        "overview: outcomes over time": lambda: pages.arrivals(run.id, run.created_at, 60),
        "overview: failures": lambda: pages.failures(run.id),
        "overview: failed attempts": lambda: pages.failed_work(run.id),
        "overview: what runs": lambda: pages.running_work(run.id),
        "overview: imported runs": lambda: pages.imports(limit=200),
        "leaderboard: columns": lambda: pages.columns(run.id),
        "leaderboard: a page": lambda: pages.leaderboard(board),
        "leaderboard: by mean": lambda: pages.leaderboard(board.model_copy(update={"sort": SortKey.MEAN})),
        "leaderboard: by a benchmark": lambda: pages.leaderboard(by_benchmark),
        "leaderboard: whether there are new evaluations": lambda: pages.count_evaluations(run.id),
        "leaderboard: evaluated jobs": lambda: pages.scored_candidates(run.id),
        "leaderboard: kept comparisons": lambda: pages.kept_comparisons(run.id, base.position),
        "leaderboard: search": lambda: pages.leaderboard(board.model_copy(update={"search": "(20, "})),
        "compare: names": lambda: pages.search_candidates(run.id, "(20, ", 300),
        "compare: a candidate's scores": lambda: pages.candidate_scores(run.id, position),
        "map: all candidates": lambda: pages.candidates(run.id),
        "map: all measures": lambda: pages.scores_in_columns(run.id, columns),
        "map: what failed": lambda: pages.unscored(run.id, columns),
        "claims: cards": lambda: pages.cards(limit=200),
        "jobs: a page": lambda: pages.job_list(run.id, limit=15),
        "jobs: those that wait": lambda: pages.job_list(run.id, state=JobState.WAITING, limit=15),
        "jobs: one": lambda: (pages.job_detail(some, run.id), pages.attempts(some), pages.outcomes([some])),
        "card: its numbers": lambda: result_of_candidate(pages, run.id, candidate, first.engine_key),
    }
