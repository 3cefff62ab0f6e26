"""Bootstrap draws of a benchmark's score over its documents.

The bootstrap is Bayesian (Rubin 1981) and stratified: a draw gives every document of a subset a random weight. Two
additions to the textbook form keep the coverage in simulations (`tests/evals/test_stats.py` repeats them):

* * One imaginary document on which only the base is correct and one on which only the candidate is (for a single
  score: one correct, one wrong), spread over the subsets by their sizes. It is the adjustment of Bonett and
  Price (2012) for paired proportions. Without it, no flips among 40 questions would give the interval [0, 0].
* The draws are shifted so that their mean is the measured value. The leaderboard's floor at 0 raises draws of
  subsets near chance; with 24 such subsets, the plain percentile interval lies above the measured score. The
  interval covers the expected score of the board's procedure, including the floor, on another sample of as many
  documents.

The interval of a delta is symmetric around it (Hall 1988), so that it contains the delta even if the floor makes most draws
equal.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from evals.benchmark import Formula
from evals.stats.estimates import Interval
from evals.stats.formulas import value

Floats = NDArray[np.float64]

N_DRAWS = 10_000
# Maximum number of random numbers in memory, so that a large benchmark with many distinct rows needs about 200 MB.
_CHUNK = 8_000_000


@dataclass(frozen=True)
class SubsetDocuments:
    """The documents of one subset: `values[d, s, m]` is metric m of document d for side s, 0 to 1.

    A comparison has two sides (base, candidate), a single score has one. `weights[d, m]` is the number of items
    behind a value (IFEval's instructions), 1 if a metric counts documents.
    """

    name: str
    lower_bound: float
    values: Floats
    weights: Floats
    clusters: NDArray[np.int64] | None = None
    """The cluster of each document, 0 to the number of clusters minus 1; None if documents are independent."""
    weight: float = 1.0
    """Weight of the subset in the mean over subsets; a pooled score has none."""
    unbounded: bool = False
    """Whether a value can be of any size (bits per byte), so that imaginary documents are no further apart than the real ones."""
    formula: Formula | None = None
    """How the metric follows from `sums`, if it is no mean of `values`."""
    sums: Floats | None = None
    """`sums[d, s]` is the vector of document d for side s, whose sum over documents gives the metric."""

    @property
    def n(self) -> int:
        """Number of documents."""
        return int(self.values.shape[0])


def normalized(raw: Floats, lower_bound: float, *, floor: bool = True) -> Floats:
    """Fractions on the leaderboard's scale: 0 at and below the lower bound, 100 for all correct."""
    scaled: Floats = (raw - lower_bound) / (1.0 - lower_bound) * 100.0
    return np.maximum(0.0, scaled) if floor else scaled


def lower_bound_of(subsets: Sequence[SubsetDocuments]) -> float:
    """The lower bound of pooled documents: the mean over them, as in `evals.normalize`."""
    if len({s.lower_bound for s in subsets}) == 1:
        return subsets[0].lower_bound
    return sum(s.lower_bound * s.n for s in subsets) / sum(s.n for s in subsets)


def measured(subsets: Sequence[SubsetDocuments], pooled: bool) -> Floats:
    """The measured normalized score of each side."""
    sums = [
        _sums(s, np.ones((1, s.n))) if s.sums is None else _of_formula(s, s.sums.sum(axis=0)[None])
        for s in subsets
    ]
    return combine(subsets, sums, pooled)[0]


def draws(subsets: Sequence[SubsetDocuments], pooled: bool, n_draws: int = N_DRAWS, seed: int = 0) -> Floats:
    """Scores of each side, shape (n_draws, sides), under random weights; their mean is the measured score."""
    drawn = combine(subsets, _drawn_sums(subsets, n_draws, seed), pooled)
    centred: Floats = drawn - drawn.mean(axis=0) + measured(subsets, pooled)
    return centred


def difference_draws(
    subsets: Sequence[SubsetDocuments], pooled: bool, n_draws: int = N_DRAWS, seed: int = 0
) -> tuple[Floats, Floats]:
    """Draws of candidate minus base with mean 0: of floored scores, and of scores without the floor."""
    sums = _drawn_sums(subsets, n_draws, seed)
    floored, scaled = (combine(subsets, sums, pooled, floor=floor) for floor in (True, False))
    errors = floored[:, 1] - floored[:, 0], scaled[:, 1] - scaled[:, 0]
    return errors[0] - errors[0].mean(), errors[1] - errors[1].mean()


def interval(drawn: Floats, level: float = 0.95) -> Interval:
    """The central interval of draws."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def reach(errors: Floats, alpha: float = 0.05) -> float:
    """The largest absolute error whose share `(1 + number of errors at least as large) / (1 + number)` is at least alpha."""
    place = math.ceil(alpha * (len(errors) + 1)) - 1
    if place < 1:
        return math.inf
    return float(np.partition(np.abs(errors), len(errors) - place)[len(errors) - place])


def _drawn_sums(subsets: Sequence[SubsetDocuments], n_draws: int, seed: int) -> list[tuple[Floats, Floats]]:
    total = sum(s.n for s in subsets)
    return [_subset_draws(s, s.n / total, n_draws, seed) for s in subsets]


def _subset_draws(subset: SubsetDocuments, share: float, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    """Weighted sums of values and of items over documents, one pair per draw."""
    if subset.sums is not None:
        return _formula_draws(subset, subset.sums, n_draws, seed)
    if subset.clusters is not None:
        return _cluster_draws(subset, share, n_draws, seed)
    rows = np.concatenate([subset.values.reshape(subset.n, -1), subset.weights], axis=1)
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    n_sides, n_metrics = subset.values.shape[1:]
    cut = n_sides * n_metrics
    values = distinct[:, :cut].reshape(-1, n_sides, n_metrics)
    imaginary = _imaginary_documents(n_sides, n_metrics)
    if subset.unbounded:
        imaginary = _within_reach(imaginary, subset.values)
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


def _cluster_draws(subset: SubsetDocuments, share: float, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    """As `_subset_draws`, with one random weight per cluster of documents (Cameron, Gelbach and Miller 2008).

    The imaginary documents of a score are clusters of average size, those of a comparison are alone: a cluster on which the sides
    disagree throughout is rare. With k clusters the errors are widened by sqrt(k / (k - 1)), those of a
    score also by the ratio of Student's to the normal 97.5 % quantile, since the spread between few clusters is uncertain.
    """
    assert subset.clusters is not None
    n_clusters = int(subset.clusters.max()) + 1
    n_sides, n_metrics = subset.values.shape[1:]
    flat = (subset.values * subset.weights[:, None, :]).reshape(subset.n, -1)
    columns = np.concatenate([flat, subset.weights, np.ones((subset.n, 1))], axis=1)
    totals = np.zeros((n_clusters, columns.shape[1]))
    np.add.at(totals, subset.clusters, columns)
    size = subset.n / n_clusters if n_sides == 1 else 1.0
    typical = subset.weights.mean(axis=0) * size
    imaginary = _imaginary_documents(n_sides, n_metrics)
    if subset.unbounded:
        imaginary = _within_reach(imaginary, subset.values)
    imaginary = imaginary * typical
    extra = np.concatenate(
        [
            imaginary.reshape(len(imaginary), -1),
            np.broadcast_to(typical, (len(imaginary), n_metrics)),
            np.full((len(imaginary), 1), size),
        ],
        axis=1,
    )
    rows = np.concatenate([totals, extra])
    shape = np.concatenate([np.ones(n_clusters), np.full(len(extra), share)])
    rng = np.random.default_rng([seed, zlib.crc32(subset.name.encode())])
    step = max(1, _CHUNK // len(shape))
    parts = [
        rng.standard_gamma(shape, size=(min(step, n_draws - start), len(shape))) @ rows
        for start in range(0, n_draws, step)
    ]
    drawn: Floats = np.concatenate(parts)
    drawn *= subset.n / drawn[:, -1:]
    drawn = drawn.mean(axis=0) + (drawn - drawn.mean(axis=0)) * _widening(n_clusters, n_sides)
    cut = n_sides * n_metrics
    return drawn[:, :cut].reshape(-1, n_sides, n_metrics), drawn[:, cut:-1]


def _formula_draws(subset: SubsetDocuments, sums: Floats, n_draws: int, seed: int) -> tuple[Floats, Floats]:
    """As `_subset_draws`, for a metric over all documents: the vectors are weighted, by cluster where there are clusters."""
    n_sides, size = sums.shape[1:]
    rows = sums.reshape(subset.n, -1)
    n_units = subset.n
    if subset.clusters is not None:
        n_units = int(subset.clusters.max()) + 1
        totals = np.zeros((n_units, rows.shape[1]))
        np.add.at(totals, subset.clusters, rows)
        rows = totals
    rng = np.random.default_rng([seed, zlib.crc32(subset.name.encode())])
    step = max(1, _CHUNK // max(n_units, n_sides * size))
    parts = []
    for start in range(0, n_draws, step):
        weights = rng.standard_gamma(1.0, size=(min(step, n_draws - start), n_units))
        weights *= n_units / weights.sum(axis=1, keepdims=True)
        parts.append(_of_formula(subset, (weights @ rows).reshape(-1, n_sides, size)))
    drawn = np.concatenate([part[0] for part in parts])
    if subset.clusters is not None:
        drawn = drawn.mean(axis=0) + (drawn - drawn.mean(axis=0)) * _widening(n_units, n_sides)
    return drawn, np.concatenate([part[1] for part in parts])


def _of_formula(subset: SubsetDocuments, sums: Floats) -> tuple[Floats, Floats]:
    """The metric of each draw in the form that `combine` takes: times the documents, and the documents."""
    assert subset.formula is not None
    values = value(subset.formula, sums)[..., None]
    return values * subset.n, np.full((len(values), 1), float(subset.n))


def _widening(n_clusters: int, n_sides: int) -> float:
    """Factor for few clusters. A comparison has the exact sign-flip test beside its draws, which needs no such quantile."""
    quantiles = (
        scipy.stats.t.ppf(0.975, n_clusters - 1) / scipy.stats.norm.ppf(0.975) if n_sides == 1 else 1.0
    )
    return float(math.sqrt(n_clusters / (n_clusters - 1)) * quantiles)


def _imaginary_documents(n_sides: int, n_metrics: int) -> Floats:
    """The two imaginary documents: one side correct in each, or (with one side) one correct and one wrong."""
    correct, wrong = np.ones(n_metrics), np.zeros(n_metrics)
    if n_sides == 1:
        return np.stack([correct, wrong])[:, None, :]
    return np.stack([np.stack([correct, wrong]), np.stack([wrong, correct])])


def _within_reach(imaginary: Floats, values: Floats) -> Floats:
    """Imaginary documents as far apart as the real ones: by the largest difference of the sides, or from the least to the largest value."""
    low = values.min(axis=(0, 1))
    one_side = values.shape[1] == 1
    apart = values[:, 0].max(axis=0) - low if one_side else np.abs(values[:, 1] - values[:, 0]).max(axis=0)
    scaled: Floats = low + imaginary * apart
    return scaled


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
    floor = floor and not any(s.formula is Formula.MCC for s in subsets)
    if pooled:
        values = np.sum([s[0] for s in sums], axis=0)
        items = np.sum([s[1] for s in sums], axis=0)
        return normalized((values / items[:, None, :]).mean(axis=2), lower_bound_of(subsets), floor=floor)
    by_subset = [
        normalized((values / items[:, None, :]).mean(axis=2), subset.lower_bound, floor=floor)
        for subset, (values, items) in zip(subsets, sums, strict=True)
    ]
    if len({subset.weight for subset in subsets}) == 1:
        return np.asarray(np.mean(by_subset, axis=0))
    return np.asarray(np.average(by_subset, axis=0, weights=[subset.weight for subset in subsets]))
