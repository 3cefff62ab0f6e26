"""Draws of a benchmark's score under another choice of as many documents.

The bootstrap here is Bayesian (Rubin 1981): a draw gives every document a random weight, so that it stays
within its subset. Two things are added to the textbook form, both because a simulation asked for them
(`tests/evals/test_stats.py` repeats it):

* One imaginary document on which only the base is right and one on which only the candidate is (for a single
  score: one right, one wrong), spread over the subsets by their sizes. It is the adjustment of Bonett and
  Price (2012) for paired proportions. Without it, no flips among 40 questions would give the interval [0, 0].
* The draws are moved so that their mean is the value that was measured. The leaderboard's floor at 0 lifts
  every draw of a subset that is near chance; of 24 such subsets, the plain percentile interval lies wholly
  above the measured score. What the interval then covers is the expected score of the board's own procedure,
  floor included, on another draw of as many documents.

The interval of a delta is symmetric around it (Hall 1988), so that it holds the delta itself, also where the floor lets most
draws be the same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.stats.estimates import Interval

Floats = NDArray[np.float64]

N_DRAWS = 10_000
# Most random numbers held at once: a large benchmark with many distinct rows stays within some 200 MB.
_CHUNK = 8_000_000


@dataclass(frozen=True)
class SubsetDocuments:
    """The documents of one subset: `values[d, s, m]` is metric m of document d for side s, 0 to 1.

    A comparison has two sides (base, candidate), a single score one. `weights[d, m]` is the number of items
    behind a value (IFEval's instructions), 1 where a metric counts documents.
    """

    name: str
    lower_bound: float
    values: Floats
    weights: Floats

    @property
    def n(self) -> int:
        """Number of documents."""
        return int(self.values.shape[0])


def normalized(raw: Floats, lower_bound: float, *, floor: bool = True) -> Floats:
    """Fractions on the leaderboard's scale: 0 at and below the lower bound, 100 for all right."""
    scaled: Floats = (raw - lower_bound) / (1.0 - lower_bound) * 100.0
    return np.maximum(0.0, scaled) if floor else scaled


def lower_bound_of(subsets: Sequence[SubsetDocuments]) -> float:
    """The lower bound of pooled documents: the mean over them, as `evals.normalize` takes it."""
    if len({s.lower_bound for s in subsets}) == 1:
        return subsets[0].lower_bound
    return sum(s.lower_bound * s.n for s in subsets) / sum(s.n for s in subsets)


def measured(subsets: Sequence[SubsetDocuments], pooled: bool) -> Floats:
    """The normalized score of each side, from the documents as they are."""
    sums = [_sums(s, np.ones((1, s.n))) for s in subsets]
    return combine(subsets, sums, pooled)[0]


def draws(subsets: Sequence[SubsetDocuments], pooled: bool, n_draws: int = N_DRAWS, seed: int = 0) -> Floats:
    """Scores of each side, shape (n_draws, sides), under random weights; their mean is the measured score."""
    drawn = combine(subsets, _drawn_sums(subsets, n_draws, seed), pooled)
    centred: Floats = drawn - drawn.mean(axis=0) + measured(subsets, pooled)
    return centred


def difference_draws(
    subsets: Sequence[SubsetDocuments], pooled: bool, n_draws: int = N_DRAWS, seed: int = 0
) -> tuple[Floats, Floats]:
    """Draws of candidate minus base with mean 0: of the shown scores, and of scores that are not floored."""
    sums = _drawn_sums(subsets, n_draws, seed)
    shown, scaled = (combine(subsets, sums, pooled, floor=floor) for floor in (True, False))
    errors = shown[:, 1] - shown[:, 0], scaled[:, 1] - scaled[:, 0]
    return errors[0] - errors[0].mean(), errors[1] - errors[1].mean()


def interval(drawn: Floats, level: float = 0.95) -> Interval:
    """The central interval of some draws."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def reach(errors: Floats, alpha: float = 0.05) -> float:
    """The largest size of an error whose share `(1 + number of at least that size) / (1 + number)` is at least alpha."""
    place = math.ceil(alpha * (len(errors) + 1)) - 1
    if place < 1:
        return math.inf
    return float(np.partition(np.abs(errors), len(errors) - place)[len(errors) - place])


def _drawn_sums(subsets: Sequence[SubsetDocuments], n_draws: int, seed: int) -> list[tuple[Floats, Floats]]:
    total = sum(s.n for s in subsets)
    return [_subset_draws(s, s.n / total, n_draws, seed) for s in subsets]


def _subset_draws(subset: SubsetDocuments, share: float, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    """Weighted sums of values and of items over documents, one pair per draw."""
    rows = np.concatenate([subset.values.reshape(subset.n, -1), subset.weights], axis=1)
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    n_sides, n_metrics = subset.values.shape[1:]
    cut = n_sides * n_metrics
    values = distinct[:, :cut].reshape(-1, n_sides, n_metrics)
    imaginary = _imaginary(n_sides, n_metrics)
    typical = np.broadcast_to(subset.weights.mean(axis=0), (len(imaginary), n_metrics))
    grouped = SubsetDocuments(
        subset.name,
        subset.lower_bound,
        np.concatenate([values, imaginary]),
        np.concatenate([distinct[:, cut:], typical]),
    )
    shape = np.concatenate([counts.astype(float), np.full(len(imaginary), share)])
    rng = np.random.default_rng([seed, zlib.crc32(subset.name.encode())])
    step = max(1, _CHUNK // len(shape))
    parts = []
    for start in range(0, n_draws, step):
        weights = rng.standard_gamma(shape, size=(min(step, n_draws - start), len(shape)))
        # Every subset keeps its size in every draw: the bootstrap is stratified.
        weights *= subset.n / weights.sum(axis=1, keepdims=True)
        parts.append(_sums(grouped, weights))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _imaginary(n_sides: int, n_metrics: int) -> Floats:
    """The two imaginary documents: only one side right, or (with one side) one right and one wrong."""
    right, wrong = np.ones(n_metrics), np.zeros(n_metrics)
    if n_sides == 1:
        return np.stack([right, wrong])[:, None, :]
    return np.stack([np.stack([right, wrong]), np.stack([wrong, right])])


def _sums(subset: SubsetDocuments, weights: Floats) -> tuple[Floats, Floats]:
    """Per draw: sum of weight x items x value, shape (draws, sides, metrics), and of weight x items."""
    items = weights @ subset.weights
    flat = (subset.values * subset.weights[:, None, :]).reshape(subset.n, -1)
    sums = (weights @ flat).reshape(len(weights), *subset.values.shape[1:])
    return sums, items


def combine(
    subsets: Sequence[SubsetDocuments],
    sums: Sequence[tuple[Floats, Floats]],
    pooled: bool,
    *,
    floor: bool = True,
) -> Floats:
    """Normalized scores, shape (draws, sides), from sums of values and of items per subset."""
    if pooled:
        values = np.sum([s[0] for s in sums], axis=0)
        items = np.sum([s[1] for s in sums], axis=0)
        return normalized((values / items[:, None, :]).mean(axis=2), lower_bound_of(subsets), floor=floor)
    shown = [
        normalized((values / items[:, None, :]).mean(axis=2), subset.lower_bound, floor=floor)
        for subset, (values, items) in zip(subsets, sums, strict=True)
    ]
    averaged: Floats = np.mean(shown, axis=0)
    return averaged
