"""The estimate of remaining time: by hand where the answer is known, and on simulated runs whose end is known."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.remaining_time import KINDS, QUARTERS, Kind, SimulatedRun, errors, growth_s
from orchestrator.plan.remaining import (
    RunningBatch,
    SteadyEstimate,
    Waiting,
    falling_s,
    remaining_s,
    robust_mean,
)

seconds = st.floats(0.1, 1e5)
running_batches = st.lists(
    st.builds(
        RunningBatch,
        expected_s=st.none() | seconds,
        measured=st.booleans(),
        elapsed_s=st.floats(0, 1e5),
        start_s=st.none() | seconds,
        share_done=st.none() | st.floats(0, 1),
        counted_s=st.floats(0, 1e5),
    ),
    max_size=6,
)
waiting_jobs = st.lists(
    st.builds(Waiting, count=st.integers(0, 3000), expected_s=st.none() | seconds, measured=st.booleans()),
    max_size=4,
)


def job(
    expected_s: float | None = 100.0, elapsed_s: float = 0.0, **fields: float | bool | None
) -> RunningBatch:
    return RunningBatch.model_validate(
        {"expected_s": expected_s, "measured": True, "elapsed_s": elapsed_s} | fields
    )


def jobs(count: int, expected_s: float | None = 100.0, *, measured: bool = True) -> Waiting:
    return Waiting(count=count, expected_s=expected_s, measured=measured)


def test_jobs_wait_for_the_engine_that_is_free_first() -> None:
    assert remaining_s([], [], parallel=1) == 0.0
    assert remaining_s([], [jobs(4)], parallel=1) == 400.0
    assert remaining_s([], [jobs(4)], parallel=4) == 100.0
    assert remaining_s([], [jobs(5)], parallel=4) == 200.0
    assert remaining_s([job(elapsed_s=40)], [jobs(4)], parallel=1) == 460.0
    assert remaining_s([job(elapsed_s=40), job(elapsed_s=20)], [jobs(2)], parallel=2) == 180.0
    assert remaining_s([job(1000.0)], [jobs(4)], parallel=4) == 1000.0, "the longest rest decides"
    assert remaining_s([], [jobs(50_000, 2.0)], parallel=10) == pytest.approx(10_000.0)
    assert remaining_s([], [jobs(2)], parallel=1, starts_s=30.0) == 230.0


def test_an_engine_that_starts_is_waited_for() -> None:
    assert remaining_s([job(start_s=300.0, elapsed_s=60.0)], [], parallel=1) == 340.0
    late = remaining_s([job(start_s=300.0, elapsed_s=900.0)], [], parallel=1)
    assert late is not None
    assert 100.0 < late < 160.0


def test_a_jobs_own_pace_overrules_its_expectation_as_it_goes_on() -> None:
    def rest(share: float, expected: float | None = 100.0, *, measured: bool = True) -> float:
        batch = job(expected, share * 1000, share_done=share, counted_s=share * 1000, measured=measured)
        left = remaining_s([batch], [], parallel=1)
        assert left is not None
        return left

    assert rest(0.5, None) == 500.0
    assert rest(0.5, measured=False) == pytest.approx(500.0, rel=0.03)
    assert rest(0.5) == pytest.approx(500.0, rel=0.2)
    assert rest(0.95) == pytest.approx(50.0, rel=0.1)


def test_nothing_is_shown_where_nothing_was_measured() -> None:
    assert remaining_s([], [jobs(3, None)], parallel=1) is None
    assert remaining_s([], [jobs(3, measured=False)], parallel=1) is None
    assert remaining_s([job(measured=False)], [], parallel=1) is None
    assert remaining_s([job(None, 50)], [], parallel=1) is None
    slow = job(10.0, 500, measured=False, share_done=0.5, counted_s=500)
    left = remaining_s([slow], [jobs(3, 10.0, measured=False)], parallel=1)
    assert left == pytest.approx(500 + 3 * 1000, rel=0.05), (
        "the first job's pace corrects the model for the others"
    )
    unknown = remaining_s([slow], [jobs(3, None)], parallel=1)
    assert unknown == pytest.approx(500 + 3 * 1000, rel=0.05)


@given(running_batches, waiting_jobs, st.integers(0, 12), seconds)
@settings(max_examples=300, deadline=None)
def test_without_news_it_only_falls_and_never_below_the_longest_rest(
    running: list[RunningBatch], waiting: list[Waiting], parallel: int, later_s: float
) -> None:
    now = remaining_s(running, waiting, parallel=parallel)
    moved = [r.model_copy(update={"elapsed_s": r.elapsed_s + later_s}) for r in running]
    later = remaining_s(moved, waiting, parallel=parallel)
    if now is None or later is None:
        return
    assert 0.0 <= later <= now * (1 + 1e-9) + 1e-9
    for batch in running:
        alone = remaining_s([batch], [], parallel=1)
        assert alone is None or batch.expected_s is None or not batch.measured or now >= alone * (1 - 1e-9)


@given(seconds, st.lists(st.floats(0.0, 1e5), min_size=2, max_size=20))
def test_an_expected_time_falls_without_reaching_its_end(total: float, times: list[float]) -> None:
    rests = [falling_s(total, t) for t in sorted(times)]
    assert all(later <= sooner * (1 + 1e-9) for sooner, later in pairwise(rests))
    assert all(rest >= 0 for rest in rests)
    assert falling_s(total, 0.0) == total


@given(
    st.lists(
        st.tuples(st.floats(0, 60), st.none() | st.floats(0, 1e6), st.integers(0, 1)), min_size=1, max_size=40
    )
)
def test_what_is_shown_falls_between_two_endings(moments: list[tuple[float, float | None, int]]) -> None:
    steady, now, ended, last = SteadyEstimate(), 0.0, 0, None
    for passed, estimate, ends in moments:
        now, ended = now + passed, ended + ends
        shown = steady.update(now, estimate, ended)
        assert (shown is None) == (estimate is None)
        assert shown is None or shown >= 0
        if last is not None and shown is not None and not ends:
            assert shown <= last * (1 + 1e-9)
        last = shown


def test_an_estimate_that_grew_is_reached_when_something_ends() -> None:
    steady = SteadyEstimate()
    assert steady.update(0.0, 47.0, 1) == 47.0
    shown = steady.update(2.0, 485.0, 1)
    assert shown is not None
    assert 46.0 < shown < 47.0
    assert steady.update(3.0, 485.0, 2) == 485.0


@given(st.lists(st.floats(0.01, 100), min_size=5, max_size=30))
def test_one_value_far_off_does_not_decide_a_mean(values: list[float]) -> None:
    median = statistics.median([*values, 1e9])
    assert robust_mean([*values, 1e9]) <= 4 * median
    assert min(values) * (1 - 1e-9) <= robust_mean(values) <= max(values) * (1 + 1e-9)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.candidates < 50], ids=lambda kind: kind.title)
def test_simulated_runs_are_estimated_better_than_by_jobs_that_have_ended(kind: Kind) -> None:
    runs = [SimulatedRun(kind, seed).run() for seed in range(2)]
    medians = {}
    for name in ("now", "elapsed / done", "last ten minutes"):
        found = [e for moments, end_s in runs for e in errors(moments, end_s, name) if e is not None]
        medians[name] = statistics.median(found) if found else float("inf")
    assert len(
        [1 for moments, end_s in runs for e in errors(moments, end_s, "now") if e is not None]
    ) == 2 * len(QUARTERS)
    assert medians["now"] < min(medians["elapsed / done"], medians["last ten minutes"])
    assert medians["now"] < 0.5
    assert max(growth_s(moments, "now") for moments, _ in runs) < 1e-6
