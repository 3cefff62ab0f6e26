"""Estimates the seconds until a run ends, for progress lines, `status`, `watch` and the dashboard. No I/O."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Sequence

from pydantic import Field

from evals.engine import Frozen

# Below this share of its work a batch's pace is ignored.
_FIRST_SHARE = 0.02
# From this share on a batch's pace also corrects the expectations of jobs without measurements.
_TELLING_SHARE = 0.1
# Share at which a batch's pace and its expectation have equal weight: measured expectations, and the model's.
_EVEN_SHARE = 0.1
_EVEN_SHARE_GUESSED = 0.01
# Most waiting jobs that are scheduled one by one; for more, the mean over the engines is as exact.
_LAID_OUT = 1000
# Time constant in seconds with which a shown estimate follows a shorter one.
_FOLLOW_S = 5.0


class RunningBatch(Frozen):
    """A running batch of an engine, or a running build."""

    expected_s: float | None = Field(
        description="Expected seconds of work, without its engine's start; null if unknown."
    )
    measured: bool = Field(
        description="Whether the expectation is based on completed jobs, not on the model alone."
    )
    elapsed_s: float = Field(
        ge=0, description="Seconds since its work began, or since its engine began to start."
    )
    start_s: float | None = Field(
        default=None, description="Expected seconds of its engine's start; null once the engine has started."
    )
    share_done: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of its work that is done; null before anything is counted.",
    )
    counted_s: float = Field(
        default=0.0, ge=0, description="Seconds of work after which that share was done."
    )

    @property
    def projected_s(self) -> float | None:
        """Seconds of the whole work at its own pace; None while too little is done."""
        if self.share_done is None or self.share_done < _FIRST_SHARE or self.counted_s <= 0:
            return None
        return self.counted_s / self.share_done


class Waiting(Frozen):
    """Jobs of one kind that have not begun."""

    count: int = Field(ge=0, description="How many jobs.")
    expected_s: float | None = Field(description="Expected seconds of one of them; null if unknown.")
    measured: bool = Field(description="Whether the expectation is based on completed jobs.")


def remaining_s(
    running: Sequence[RunningBatch],
    waiting: Sequence[Waiting],
    *,
    parallel: int,
    starts_s: float = 0.0,
) -> float | None:
    """Seconds until all work is done; None if more than half of it is unmeasured.

    `parallel` engines take the waiting jobs, longest first; `starts_s` are the seconds of engine starts to
    come. Without new measurements the estimate only falls: a batch that takes longer than expected approaches
    its end without reaching it. The estimate is at least the longest remaining time of the running batches.
    """
    running, waiting = _complete(running, [w for w in waiting if w.count])
    if any(r.expected_s is None and r.projected_s is None for r in running):
        return None
    if any(w.expected_s is None for w in waiting):
        return None
    rests = [_rest_s(batch) for batch in running]
    guessed = sum((w.expected_s or 0.0) * w.count for w in waiting if not w.measured)
    guessed += sum(
        rest
        for batch, rest in zip(running, rests, strict=True)
        if not batch.measured and batch.projected_s is None
    )
    total = sum(rests) + sum((w.expected_s or 0.0) * w.count for w in waiting)
    if guessed > total / 2:
        return None
    return _laid_out_s(rests, waiting, max(1, parallel), starts_s)


class SteadyEstimate:
    """Smooths an estimate for display: between two events it only falls, and it does not reach 0 early."""

    def __init__(self) -> None:
        self._events: Hashable = None
        self._shown_s: float | None = None
        self._at_s = 0.0

    def update(self, now_s: float, estimate_s: float | None, events: Hashable) -> float | None:
        """Seconds left to show at `now_s`; `events` is a value that changes when a job, or a quarter of one, has ended."""
        passed = max(0.0, now_s - self._at_s)
        shown = self._shown_s
        self._at_s = now_s
        if estimate_s is None or shown is None or events != self._events:
            self._shown_s = estimate_s
        elif estimate_s > shown:
            # Falls so that it reaches 0 at the same time as the new estimate.
            self._shown_s = shown * math.exp(-passed / estimate_s)
        else:
            # Approaches the new estimate from above within seconds.
            self._shown_s = estimate_s + (max(shown - passed, estimate_s) - estimate_s) * math.exp(
                -passed / _FOLLOW_S
            )
        self._events = events
        return self._shown_s


def falling_s(total_s: float, elapsed_s: float) -> float:
    """Remaining seconds of an expected time: linear at first, exponential after 80 %, never 0."""
    if elapsed_s <= 0.8 * total_s:
        return total_s - elapsed_s
    late = elapsed_s - 0.8 * total_s
    return 0.2 * total_s * math.exp(-late / (0.8 * total_s)) if total_s > 0 else 0.0


def _rest_s(batch: RunningBatch) -> float:
    """Remaining seconds of a batch: a weighted mean of its pace and its expectation."""
    expected, projected = batch.expected_s, batch.projected_s
    if batch.start_s is not None:
        return falling_s(batch.start_s, batch.elapsed_s) + (expected or 0.0)
    if projected is None:
        return falling_s(expected or 0.0, batch.elapsed_s)
    by_pace = falling_s(projected - batch.counted_s, batch.elapsed_s - batch.counted_s)
    if expected is None:
        return by_pace
    share = batch.share_done or 0.0
    weight = share / (share + (_EVEN_SHARE if batch.measured else _EVEN_SHARE_GUESSED))
    return weight * by_pace + (1 - weight) * falling_s(expected, batch.elapsed_s)


def _complete(
    running: Sequence[RunningBatch], waiting: Sequence[Waiting]
) -> tuple[Sequence[RunningBatch], Sequence[Waiting]]:
    """Correct unmeasured expectations by the pace of running batches; unknown ones become the mean."""
    paced = [r for r in running if r.projected_s and (r.share_done or 0.0) >= _TELLING_SHARE]
    ratios = [
        r.projected_s / r.expected_s for r in paced if r.projected_s and r.expected_s and not r.measured
    ]
    factor = robust_mean(ratios) if ratios else None
    measured = [(w.expected_s, w.count) for w in waiting if w.expected_s is not None and w.measured]
    measured += [(r.expected_s, 1) for r in running if r.expected_s is not None and r.measured]
    measured = measured or [(r.projected_s, 1) for r in paced if r.projected_s]
    mean = sum(s * n for s, n in measured) / sum(n for _, n in measured) if measured else None

    def completed(part: RunningBatch | Waiting) -> dict[str, float | bool | None]:
        if part.expected_s is None:
            return {"expected_s": mean, "measured": mean is not None}
        if not part.measured and factor is not None:
            return {"expected_s": part.expected_s * factor, "measured": True}
        return {}

    return (
        [r.model_copy(update=completed(r)) if r.projected_s is None else r for r in running],
        [w.model_copy(update=completed(w)) for w in waiting],
    )


def _laid_out_s(rests: list[float], waiting: Sequence[Waiting], parallel: int, starts_s: float) -> float:
    """End of the last job in seconds: longest job first, each on the engine that is free first."""
    # Builds may run beside the engines: only the first `parallel` to end take waiting jobs.
    free = sorted(rests)[:parallel]
    free += [0.0] * (parallel - len(free))
    longest = max(rests, default=0.0)
    total = sum((w.expected_s or 0.0) * w.count for w in waiting) + starts_s
    if not waiting:
        return longest + starts_s
    if sum(w.count for w in waiting) > _LAID_OUT:
        return max(longest, (sum(free) + total) / parallel)
    heapq.heapify(free)
    first = starts_s / parallel
    for group in sorted(waiting, key=lambda w: -(w.expected_s or 0.0)):
        for _ in range(group.count):
            heapq.heapreplace(free, free[0] + (group.expected_s or 0.0))
    return max(longest, max(free) + first)


def robust_mean(values: Sequence[float]) -> float:
    """Mean of positive values, each clipped to within a factor of 4 of their median.

    A mean, not a median: remaining time is a sum, and the median of skewed durations would be too small.
    """
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return sum(min(max(v, median / 4), median * 4) for v in ordered) / len(ordered)
