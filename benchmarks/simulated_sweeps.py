"""Sweeps whose truth is known: answers of a base and of candidates to a suite's questions, and what is concluded from them.

Each question is sure to be right, sure to be wrong (up to 1 %), or undecided: right with probability 1/2, anew for each
checkpoint, which is the noise that makes answers flip. All candidates are compared with the same answers of the base.
A candidate with an effect answers a share of the base's wrong questions rightly (or of its right ones wrongly).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from evals.stats import PairedDraws, average_draws, corrected, delta_of, paired_draws
from evals.stats.paired import Documents
from evals.stats.resample import Floats, SubsetDocuments
from evals.suite import Aggregation, Benchmark, Suite

Counts = NDArray[np.int64]
SIGNIFICANT = 0.05
UNDECIDED = 0.2
SURE = 0.99
# A delta of fewer null standard deviations (p above 0.009) can pass no correction here: it is given p = 1 and not computed.
_SCREEN = 2.6
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(11)
_INSTRUCTIONS = (305, 179, 57)  # IFEval: 305 prompts with one instruction, 179 with two, 57 with three


@dataclass(frozen=True)
class Answers:
    """A benchmark in one sweep. Right-or-wrong: `base[s]`, `gained[k, s]`, `lost[k, s]` count documents of subset s.

    IFEval's instructions are kept one by one: `items[d]` of prompt d, `right[k, d]` that a checkpoint follows, the base first.
    """

    benchmark: Benchmark
    sizes: Counts
    bounds: Floats
    base: Counts
    gained: Counts
    lost: Counts
    items: Counts | None = None
    right: Counts | None = None

    @property
    def pooled(self) -> bool:
        """Whether the documents of all subsets are floored as a whole."""
        return self.benchmark.aggregation not in (
            Aggregation.SUBSET_MEAN,
            Aggregation.SUBSET_MEAN_NORMALIZED,
        )

    def documents(self, candidate: int) -> Documents:
        """The paired answers of the base and one candidate, as the store's samples would give them."""
        if self.items is not None and self.right is not None:
            followed = np.stack([self.right[0], self.right[candidate + 1]], axis=1)
            values = np.stack(
                [followed / self.items[:, None], (followed == self.items[:, None]).astype(float)], axis=2
            )
            weights = np.stack([self.items.astype(float), np.ones(len(self.items))], axis=1)
            return Documents((SubsetDocuments("ifeval", 0.0, values, weights),), pooled=True)
        subsets = []
        for s, (size, bound) in enumerate(zip(self.sizes, self.bounds, strict=True)):
            gained, lost = self.gained[candidate, s], self.lost[candidate, s]
            cells = [size - self.base[s] - gained, gained, lost, self.base[s] - lost]
            sides = [
                np.repeat(np.array(side), cells) for side in ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0])
            ]
            subsets.append(
                SubsetDocuments(
                    f"s{s}", float(bound), np.stack(sides, axis=1)[:, :, None], np.ones((size, 1))
                )
            )
        return Documents(tuple(subsets), self.pooled)

    def shown(self) -> tuple[Floats, Floats]:
        """Every candidate's delta in points, and its variance under swaps of base and candidate (by quadrature)."""
        if self.items is not None and self.right is not None:
            whole = (self.right == self.items).astype(float)
            worth = (self.right / self.items.sum() + whole / len(self.items)) * 50
            changes = worth[1:] - worth[0]
            return changes.sum(axis=1), (changes**2).sum(axis=1)
        gained, lost, base, sizes, bounds = self.gained, self.lost, self.base, self.sizes, self.bounds
        if self.pooled:
            gained, lost = gained.sum(axis=1, keepdims=True), lost.sum(axis=1, keepdims=True)
            base, sizes, bounds = base.sum(keepdims=True), sizes.sum(keepdims=True), bounds[:1]
        floor = bounds[None, :, None]

        def score(right: NDArray[Any]) -> Floats:
            return np.maximum(0.0, (right / sizes[None, :, None] - floor) / (1 - floor)) * 100

        delta = (score((base + gained - lost)[:, :, None]) - score(base[None, :, None]))[:, :, 0].mean(axis=1)
        flips, total = gained + lost, 2 * base + gained - lost
        change = np.sqrt(flips)[:, :, None] * _NODES
        swapped = score((total[:, :, None] + change) / 2) - score((total[:, :, None] - change) / 2)
        variance = (swapped**2 @ (_WEIGHTS / _WEIGHTS.sum())).sum(axis=1) / len(sizes) ** 2
        return delta, variance


@dataclass(frozen=True)
class Verdicts:
    """Verdicts of one sweep, candidates x (benchmarks and the average): 1 better, -1 worse, 0 nothing shown."""

    now: NDArray[np.int8]
    former: NDArray[np.int8]
    contradicted: int


def draw_sweep(suite: Suite, gaps: Floats, effects: Floats, rng: np.random.Generator) -> tuple[Answers, ...]:
    """One sweep: `gaps` are by how much the base's raw scores lie above the lower bounds, drawn anew for every subset;
    `effects[k]` is the share of questions that candidate k turns."""
    return tuple(_answers(b, gaps, effects, rng) for b in suite.benchmarks)


def judge(sweep: Sequence[Answers], *, n_draws: int = 2_000, others: int = 0) -> Verdicts:
    """What is concluded now, by the product's own functions, and what was concluded before (McNemar or bootstrap by its normal
    curve, Benjamini-Hochberg over the benchmarks and, apart from them, over the averages)."""
    shown = [answers.shown() for answers in sweep]
    deltas = np.stack([d for d, _ in shown], axis=1)
    spreads = np.stack([v for _, v in shown], axis=1)
    deltas = np.concatenate([deltas, deltas.mean(axis=1, keepdims=True)], axis=1)
    spreads = np.sqrt(np.concatenate([spreads, spreads.mean(axis=1, keepdims=True) / len(sweep)], axis=1))
    p_values = np.ones(deltas.shape)
    contradicted = 0
    for k, place in zip(*np.nonzero(np.abs(deltas) > _SCREEN * np.maximum(spreads, 1e-9)), strict=True):
        if place < len(sweep):
            found = delta_of(paired_draws(sweep[place].documents(k), n_draws))
        else:
            found = delta_of(average_draws(_all_draws(sweep, k, n_draws)))
        assert abs(found.delta_points - deltas[k, place]) < 1e-6, "the fast delta is not the product's"
        p_values[k, place] = found.p
        beside = found.interval.low > 0 if found.delta_points > 0 else found.interval.high < 0
        contradicted += (found.p < SIGNIFICANT) != beside
    adjusted = np.array(corrected(list(p_values.ravel()), others), dtype=float).reshape(deltas.shape)
    signs = np.sign(np.where(np.abs(deltas) > 1e-9, deltas, 0.0))
    now = np.where(adjusted < SIGNIFICANT, signs, 0).astype(np.int8)
    return Verdicts(now, _former(sweep, deltas, spreads), contradicted)


def _former(sweep: Sequence[Answers], deltas: Floats, spreads: Floats) -> NDArray[np.int8]:
    normal = 2 * scipy.stats.norm.sf(np.abs(deltas) / np.maximum(spreads, 1e-12))
    p_values = np.where(np.abs(deltas) > 1e-9, normal, 1.0)
    for place, answers in enumerate(sweep):
        if answers.items is None:
            gained, lost = answers.gained.sum(axis=1), answers.lost.sum(axis=1)
            tail = scipy.stats.binom.cdf(np.minimum(gained, lost), gained + lost, 0.5)
            p_values[:, place] = np.minimum(1.0, 2 * tail)
    control = scipy.stats.false_discovery_control
    rows = control(p_values[:, :-1].ravel()).reshape(p_values[:, :-1].shape)
    adjusted = np.concatenate([rows, control(p_values[:, -1])[:, None]], axis=1)
    signs = np.where(deltas > 0, 1, -1)
    return np.where(adjusted < SIGNIFICANT, signs, 0).astype(np.int8)


def _all_draws(sweep: Sequence[Answers], candidate: int, n_draws: int) -> list[PairedDraws]:
    return [paired_draws(answers.documents(candidate), n_draws) for answers in sweep]


def _answers(benchmark: Benchmark, gaps: Floats, effects: Floats, rng: np.random.Generator) -> Answers:
    sizes = np.array([s.n_documents or 100 for s in benchmark.subsets])
    bounds = np.array([s.lower_bound if benchmark.aggregation.normalizes else 0.0 for s in benchmark.subsets])
    levels = np.clip(bounds + rng.choice(gaps, len(sizes)), 0.03, 0.9)
    if len(benchmark.metrics) > 1:
        return _instructions(benchmark, int(sizes.sum()), float(levels[0]), effects, rng)
    undecided = np.round(UNDECIDED * sizes).astype(int)
    sure = sizes - undecided
    rate = (levels * sizes - 0.5 * undecided - (1 - SURE) * sure) / (2 * SURE - 1)
    right = np.clip(np.round(rate), 0, sure).astype(int)
    shape = (len(effects), len(sizes))
    base, gained, lost = np.zeros(len(sizes), int), np.zeros(shape, int), np.zeros(shape, int)
    up, down = (np.maximum(way * effects, 0)[:, None] for way in (1, -1))
    for count, chance in ((undecided, 0.5), (right, SURE), (sure - right, 1 - SURE)):
        of_base = rng.binomial(count, chance)
        base += of_base
        turned = chance + (1 - chance) * up - chance * down
        gained = gained + rng.binomial(np.broadcast_to(count - of_base, shape), turned)
        lost = lost + rng.binomial(np.broadcast_to(of_base, shape), 1 - turned)
    return Answers(benchmark, sizes, bounds, base, gained, lost)


def _instructions(
    benchmark: Benchmark, n: int, level: float, effects: Floats, rng: np.random.Generator
) -> Answers:
    shares = np.array(_INSTRUCTIONS) / sum(_INSTRUCTIONS)
    items = (
        rng.choice([1, 2, 3], n, p=shares) if n != sum(_INSTRUCTIONS) else np.repeat([1, 2, 3], _INSTRUCTIONS)
    )
    certain = np.where(rng.random(n) < level, SURE, 1 - SURE)
    chances = np.where(rng.random(n) < UNDECIDED, 0.5, certain)
    up, down = (np.maximum(way * np.concatenate([[0.0], effects]), 0)[:, None] for way in (1, -1))
    turned = chances + (1 - chances) * up - chances * down
    nothing = np.zeros((len(effects), 1), int)
    return Answers(
        benchmark,
        np.array([n]),
        np.zeros(1),
        np.zeros(1, int),
        nothing,
        nothing,
        items,
        rng.binomial(items, turned),
    )
