"""Exact e-processes and confidence sequences: valid at any time of looking, for any number of documents, without an approximation.

An e-process is a nonnegative process whose expectation is at most 1 at every stopping time if the null hypothesis holds, so that it
ever exceeds 1 / alpha with a probability of at most alpha (Ville 1939; Ramdas, Gruenwald, Vovk and Shafer 2023, Statistical Science 38).

* Right or wrong, paired: only the discordant documents count. Without an effect the signs of the discordant documents are fair
  coins, whatever their number. The e-process is a mixture of likelihood ratios over a beta prior (Robbins 1970; Howard,
  Ramdas, McAuliffe and Sekhon 2021, Annals of Statistics 49, conjugate beta-binomial mixture), one-sided with the prior cut at 1/2.
* Bounded differences, drawn without replacement from N documents: the capital of a gambler who bets on the next difference against its
  conditional mean under the hypothesis about the mean of all N (Waudby-Smith and Ramdas 2020, NeurIPS 33; 2023, JRSS B 86, section 5).
  Half of the capital bets upwards, half downwards. The sequence of intervals shrinks to the measured mean at the whole benchmark.
  A mean of subset means, or of benchmarks, is such a mean if each document is multiplied by its share (`document_points`).

Exactness for every N costs power: see docs/stopping.md for the figures. Decisions use `evals.stats.stopping`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from evals.errors import EvaluationError
from evals.stats.estimates import Interval
from evals.stats.resample import Floats, SubsetDocuments, lower_bound_of

PRIOR = 0.5
# A bet is at most this share of what keeps the capital above 0.
_LARGEST_BET = 0.5
_GRID = 401


def discordant_e_value(gained: int, lost: int, *, one_sided: bool = False) -> float:
    """The e-value of "a discordant document is as likely a gain as a loss" after these counts; one-sided: "at most as likely a gain".

    Valid at any time: the probability that it ever reaches 20 without an effect is at most 5 %.
    """
    if min(gained, lost) < 0:
        raise EvaluationError("Counts of gained and lost documents are at least 0.")
    a, b = PRIOR + gained, PRIOR + lost
    log = scipy.special.betaln(a, b) - scipy.special.betaln(PRIOR, PRIOR) + (gained + lost) * math.log(2)
    if one_sided:
        above = float(scipy.stats.beta.sf(0.5, a, b))
        if above == 0:
            return 0.0
        log += math.log(2 * above)
    return math.exp(min(float(log), 700.0))


def discordant_interval(gained: int, lost: int, level: float = 0.95) -> Interval:
    """The confidence sequence of the probability that a discordant document is a gain, 0 to 1, after these counts."""
    a, b = PRIOR + gained, PRIOR + lost
    mixture = scipy.special.betaln(a, b) - scipy.special.betaln(PRIOR, PRIOR)
    n = gained + lost
    peak = gained / n if n else 0.5

    def excess(p: float) -> float:
        likelihood = scipy.special.xlogy(gained, p) + scipy.special.xlogy(lost, 1 - p)
        return float(mixture - likelihood + math.log(1 - level))

    tiny = 1e-15
    low = 0.0 if gained == 0 or excess(tiny) < 0 else scipy.optimize.brentq(excess, tiny, peak)
    high = 1.0 if lost == 0 or excess(1 - tiny) < 0 else scipy.optimize.brentq(excess, peak, 1 - tiny)
    return Interval(low=float(low), high=float(high), level=level)


@dataclass(frozen=True)
class BoundedSequence:
    """Intervals of the mean over all N documents after each of the first n draws; `low` and `high` have shape (n,).

    `e_value` is that of "the mean of all N documents is `null`", shape (n,); infinite once that mean is impossible.
    """

    low: Floats
    high: Floats
    e_value: Floats
    level: float

    def interval(self, n: int) -> Interval:
        """The interval after the first n documents, n >= 1: the intersection of all until then."""
        return Interval(low=float(self.low[n - 1]), high=float(self.high[n - 1]), level=self.level)


def bounded_sequence(
    values: Floats,
    n_whole: int,
    bounds: tuple[float, float],
    *,
    level: float = 0.95,
    null: float = 0.0,
) -> BoundedSequence:
    """The confidence sequence of the mean of `n_whole` values in `bounds`, from draws without replacement in random order.

    `values` has shape (n,), n <= n_whole, in the order in which they were drawn. The grid of means has 401 points; the interval is
    extended by one step on both sides, and meets what the values drawn so far leave possible exactly.
    """
    low, high = bounds
    if not len(values) or len(values) > n_whole or values.min() < low - 1e-9 or values.max() > high + 1e-9:
        raise EvaluationError(
            f"A sequence needs 1 to {n_whole:,} values between {low} and {high}; these are {len(values):,}."
        )
    scaled = np.clip((np.asarray(values, dtype=float) - low) / (high - low), 0.0, 1.0)
    means = np.append(np.linspace(0.0, 1.0, _GRID), (null - low) / (high - low))
    bets = _bets(scaled, n_whole, 1 - level)
    log_up, log_down = np.zeros(len(means)), np.zeros(len(means))
    lows, highs, e_values = (np.empty(len(scaled)) for _ in range(3))
    step, drawn, span = 1.0 / (_GRID - 1), 0.0, (0.0, 1.0)
    impossible = np.zeros(len(means), dtype=bool)
    for i, value in enumerate(scaled):
        expected = (n_whole * means - drawn) / (n_whole - i)
        impossible |= (expected < -1e-9) | (expected > 1 + 1e-9)
        expected = np.clip(expected, 1e-9, 1 - 1e-9)
        log_up += np.log1p(np.minimum(bets[i], _LARGEST_BET / expected) * (value - expected))
        log_down += np.log1p(-np.minimum(bets[i], _LARGEST_BET / (1 - expected)) * (value - expected))
        drawn += value
        log_e = np.logaddexp(log_up, log_down) - math.log(2)
        log_e[impossible] = np.inf
        kept = np.flatnonzero(log_e[:-1] < -math.log(1 - level))
        possible = drawn / n_whole, (drawn + n_whole - i - 1) / n_whole
        if len(kept):
            span = (max(span[0], means[kept[0]] - step), min(span[1], means[kept[-1]] + step))
        span = (max(span[0], possible[0]), min(span[1], possible[1]))
        if span[0] > span[1]:  # rounding, or the one error in 20: the values drawn so far decide
            span = possible
        lows[i], highs[i] = span
        e_values[i] = math.exp(min(float(log_e[-1]), 700.0)) if math.isfinite(log_e[-1]) else math.inf
    return BoundedSequence(low + lows * (high - low), low + highs * (high - low), e_values, level)


def document_points(subsets: Sequence[SubsetDocuments], pooled: bool) -> tuple[list[Floats], float]:
    """Each document's part of the difference without the floor, in points: the mean over all documents is candidate minus base.

    Returns one array of shape (n,) per subset, in its order, and the largest possible absolute value. Draw the documents of all
    subsets in one random order. Without the floor of the board the parts add up; the floor changes subsets below it alone.
    """
    total = sum(s.n for s in subsets)
    units = [list(subsets)] if pooled else [[s] for s in subsets]
    points, largest = {}, 0.0
    for unit in units:
        items = np.sum([s.weights.sum(axis=0) for s in unit], axis=0)
        scale = 100 * total / len(units) / (1 - lower_bound_of(unit))
        for subset in unit:
            worth = subset.weights / items
            change = subset.values[:, 1] - subset.values[:, 0]
            points[subset.name] = scale * (change * worth).mean(axis=1)
            largest = max(largest, scale * float(worth.mean(axis=1).max()))
    return [points[s.name] for s in subsets], largest


def floored_interval(interval: Interval, lower_bound: float) -> Interval:
    """An interval of a raw score, 0 to 1, on the leaderboard's scale, 0 to 100: exact, because the floor is monotone."""
    low, high = (
        max(0.0, (end - lower_bound) / (1 - lower_bound)) * 100 for end in (interval.low, interval.high)
    )
    return Interval(low=low, high=high, level=interval.level)


def _bets(scaled: Floats, n_whole: int, alpha: float) -> Floats:
    """Predictable bets from the variance of earlier draws, aimed at half of the benchmark; shape (n,)."""
    n = np.arange(1, len(scaled) + 1)
    means = (0.5 + np.cumsum(scaled)) / (n + 1)
    variances = (0.25 + np.cumsum((scaled - means) ** 2)) / (n + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets: Floats = np.sqrt(2 * math.log(2 / alpha) / (before * max(1.0, n_whole / 2)))
    return bets
