"""The sign-flip test: the exact distribution of a delta if base and candidate are exchangeable.

Without an effect, base and candidate can be swapped on any question. Swapping them question by question, each with
probability 1/2, gives the null distribution of the delta (Fisher 1935; Pitman 1937). The delta is that of normalized
scores: each subset floored at its lower bound, then averaged as the board does. For correct or wrong answers whose
pooled score stays above the lower bound, this is the exact McNemar test.

The distribution is computed, not sampled, so that p-values of 1e-6 are accurate after a correction for 3,000 tests.
Questions that change the score by the same amount form one binomial part. Parts are independent: few are enumerated,
many are convolved by a fast Fourier transform on a grid of `_CELLS` cells over `_SPREADS` standard deviations on both
sides. A mass between two cells is split between them so that its mean is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from evals.stats.resample import Floats, SubsetDocuments, lower_bound_of, normalized

_CELLS = 1 << 14
_SPREADS = 9.0
# Maximum number of combinations that are enumerated.
_ENUMERATED = 4_096
# More distinct changes than this (scores that are not counts) are rounded to `_LEVELS` sizes.
_DISTINCT = 64
_LEVELS = 256
# Error of a probability computed by the Fourier transform.
_FOURIER_ERROR = 1e-14
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Part:
    """An independent part of a delta under random swaps: values in points, ascending, with their probabilities.

    `square` is the sum of the squared changes of its questions without the floor: a sub-Gaussian scale.
    """

    values: Floats
    chances: Floats
    square: float

    def scaled(self, share: float) -> Part:
        """This part scaled by its share in a mean."""
        return Part(self.values * share, self.chances, self.square * share**2)


@dataclass(frozen=True)
class SwapDistribution:
    """Distribution of the delta under random swaps: `tail[i]` is the probability of |delta| >= `sizes[i]` points."""

    sizes: Floats
    tail: Floats
    square: float
    slack: float

    def p(self, delta_points: float) -> float:
        """Two-sided p-value of a measured delta; 1 if it is 0."""
        size = abs(delta_points)
        if size <= _TOLERANCE or self.square == 0:
            return 1.0
        place = int(np.searchsorted(self.sizes, size - self.slack))
        exact = float(self.tail[place]) if place < len(self.tail) else 0.0
        # Hoeffding's inequality bounds probabilities below the grid's precision.
        bound = 2 * math.exp(-(size**2) / (2 * self.square))
        return min(1.0, max(exact, min(bound, exact + _FOURIER_ERROR)))

    def reach(self, alpha: float = 0.05) -> float:
        """The largest size whose p-value is at least alpha."""
        return float(self.sizes[int(np.flatnonzero(self.tail >= alpha)[-1])]) + self.slack


def swap_parts(subsets: Sequence[SubsetDocuments], pooled: bool) -> tuple[Part, ...]:
    """The parts of one benchmark's delta; `subsets` have two sides, base and candidate."""
    if pooled:
        return tuple(_parts_of_unit(subsets, 1.0))
    total = math.fsum(s.weight for s in subsets)
    return tuple(part for s in subsets for part in _parts_of_unit([s], s.weight / total))


def distribution(parts: Sequence[Part]) -> SwapDistribution:
    """The distribution of the sum of independent parts."""
    if not parts:
        return SwapDistribution(np.zeros(1), np.ones(1), 0.0, _TOLERANCE)
    square = math.fsum(p.square for p in parts)
    if math.prod(len(p.values) for p in parts) <= _ENUMERATED or len(parts) == 1:
        values, chances = _enumerate(parts)
        slack = _TOLERANCE
    else:
        values, chances, step = _convolve(parts, square)
        slack = 2 * math.sqrt(len(parts)) * step
    sizes, place = np.unique(np.round(np.abs(values), 10), return_inverse=True)
    tail = np.cumsum(np.bincount(place, chances)[::-1])[::-1]
    return SwapDistribution(sizes, np.minimum(tail / tail[0], 1.0), square, slack)


def _parts_of_unit(unit: Sequence[SubsetDocuments], share: float) -> list[Part]:
    """The parts of a unit to which the floor applies: one subset, or all documents of a pooled benchmark."""
    items = np.sum([s.weights.sum(axis=0) for s in unit], axis=0)
    answers = np.concatenate([(s.values * s.weights[:, None, :] / items).mean(axis=2) for s in unit])
    changes = np.abs(_changes(unit, answers[:, 1] - answers[:, 0]))
    sizes, counts = np.unique(np.round(changes[changes > 0], 13), return_counts=True)
    if not len(sizes):
        return []
    if len(sizes) > _DISTINCT:
        step = sizes[-1] / _LEVELS
        levels = np.maximum(1, np.round(changes[changes > 0] / step)).astype(int)
        level_counts = np.bincount(levels)
        sizes, counts = np.flatnonzero(level_counts) * step, level_counts[level_counts > 0]
    bound, total = lower_bound_of(unit), float(answers.sum())
    scale = 100 * share / (1 - bound)
    parts = [_binomial(float(size), int(count)) for size, count in zip(sizes, counts, strict=True)]
    lowest = (total - float((sizes * counts).sum())) / 2
    if lowest >= bound:
        return [p.scaled(scale) for p in parts]
    square = math.fsum(p.square for p in parts)
    if len(parts) == 1 or math.prod(len(p.values) for p in parts) <= _ENUMERATED:
        values, chances = _enumerate(parts)
    else:
        values, chances, _ = _convolve(parts, square)
    up, down = (normalized((total + sign * values) / 2, bound) for sign in (1, -1))
    floored = np.asarray(share * (up - down), dtype=np.float64)
    return [Part(floored, chances, square * scale**2)]


def _changes(unit: Sequence[SubsetDocuments], differences: Floats) -> Floats:
    """The change of each unit that is swapped as a whole: a document, or a cluster of documents."""
    if all(s.clusters is None for s in unit):
        return differences
    changes, start = [], 0
    for subset in unit:
        own = differences[start : start + subset.n]
        changes.append(own if subset.clusters is None else np.bincount(subset.clusters, weights=own))
        start += subset.n
    return np.concatenate(changes)


def _binomial(size: float, count: int) -> Part:
    """`count` changes of one size, each positive or negative."""
    ups = np.arange(count + 1)
    log = scipy.special.gammaln
    chances = np.exp(log(count + 1) - log(ups + 1) - log(count - ups + 1) - count * math.log(2))
    values = np.asarray((2.0 * ups - count) * size, dtype=np.float64)
    return Part(values, chances, count * size**2)


def _enumerate(parts: Sequence[Part]) -> tuple[Floats, Floats]:
    values, chances = parts[0].values, parts[0].chances
    for part in parts[1:]:
        values = np.add.outer(values, part.values).ravel()
        chances = np.multiply.outer(chances, part.chances).ravel()
    return values, chances


def _convolve(parts: Sequence[Part], square: float) -> tuple[Floats, Floats, float]:
    """Values of the grid, their probabilities, and the width of a cell."""
    largest = math.fsum(float(np.abs(p.values).max()) for p in parts)
    reach = min(largest, _SPREADS * math.sqrt(square))
    step = 2 * reach / (_CELLS - 4)
    if step == 0:
        return np.zeros(1), np.ones(1), 0.0
    product: NDArray[np.complex128] = np.ones(_CELLS // 2 + 1, dtype=np.complex128)
    for part in parts:
        place = part.values / step
        low = np.floor(place)
        upper, cell = place - low, low.astype(np.int64)
        mass = np.bincount(cell % _CELLS, part.chances * (1 - upper), minlength=_CELLS)
        mass += np.bincount((cell + 1) % _CELLS, part.chances * upper, minlength=_CELLS)
        product = product * np.fft.rfft(mass)
    chances: Floats = np.maximum(np.fft.irfft(product, _CELLS), 0.0)
    values = np.asarray(np.fft.fftfreq(_CELLS, 1 / _CELLS) * step, dtype=np.float64)
    return values, chances, step
