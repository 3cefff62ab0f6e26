"""Scores, deltas and their tests from the samples of one or two checkpoints."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from evals.benchmark import Formula
from evals.clusters import LEAST_CLUSTERS
from evals.errors import EvaluationError
from evals.scores import Sample
from evals.stats.estimates import Delta, Estimate, Flips, Interval, SignificanceTest
from evals.stats.formulas import statistics
from evals.stats.resample import (
    N_DRAWS,
    Floats,
    SubsetDocuments,
    difference_draws,
    draws,
    interval,
    measured,
    reach,
)
from evals.stats.sign_flip import Part, distribution, swap_parts
from evals.suite import Aggregation, Benchmark

# With fewer draws beyond zero, the tail probability comes from a normal distribution instead of the count.
_FEW_DRAWS = 10
# Points below which a delta is the rounding error of floating-point sums.
_ROUNDING = 1e-9
# Level at which an interval and its test agree.
_ALPHA = 0.05

_POOLED = (Aggregation.POOLED, Aggregation.POOLED_NORMALIZED, Aggregation.METRIC_MEAN)


@dataclass(frozen=True)
class Documents:
    """The documents of one benchmark with the answers of one side (a score) or of base and candidate (a delta)."""

    subsets: tuple[SubsetDocuments, ...]
    pooled: bool
    lower_is_better: bool = False

    @property
    def n(self) -> int:
        """Number of documents."""
        return sum(s.n for s in self.subsets)

    @property
    def formula(self) -> Formula | None:
        """How the metric follows from all documents; None for a mean over them."""
        return self.subsets[0].formula

    @property
    def of_formula(self) -> bool:
        """Whether the metric is no mean over documents."""
        return self.formula is not None


@dataclass(frozen=True)
class PairedDraws:
    """Inputs of a delta's test and interval.

    `sides` are the normalized scores of base and candidate, `errors` draws of the delta's error with mean 0, `spread_points` its
    standard error without the floor, `parts` its parts under random swaps of base and candidate, `better` how much better the
    candidate is on every document.
    """

    sides: Floats
    errors: Floats
    spread_points: float
    parts: tuple[Part, ...]
    better: Floats
    exact: bool = False
    """Whether the answers are right or wrong, pooled and without a floor: the sign-flip test is the exact McNemar test."""
    bootstrap: bool = False
    """Whether p is that of the bootstrap alone: the metric is over all documents, and no sum over them is swapped."""
    clusters: int | None = None
    """Number of clusters that were drawn and swapped as wholes; None if documents are independent."""


def documents(sides: Sequence[Sequence[Sample]], benchmark: Benchmark) -> Documents:
    """The documents that every side answered, in one order; others are left out."""
    if not all(sides):
        raise EvaluationError(
            "There are no samples to compare: evaluate with samples kept, or import the samples files."
        )
    keyed = [{(s.subset, s.doc_id): s for s in side} for side in sides]
    for side, by_key in zip(sides, keyed, strict=True):
        if len(by_key) < len(side):
            raise EvaluationError(
                f"{_first_repeat(side)} is answered twice in one set of samples: import one run at a time."
            )
    common = sorted(set.intersection(*(set(k) for k in keyed)))
    if not common:
        raise EvaluationError(
            "The two sets of samples have no document in common: compare runs of the same benchmark."
        )
    by_subset: dict[str, list[tuple[str, int]]] = {}
    for key in common:
        by_subset.setdefault(key[0], []).append(key)
    subsets = tuple(_subset(name, keys, keyed, benchmark) for name, keys in by_subset.items())
    return Documents(subsets, pooled(benchmark), benchmark.lower_is_better)


def pooled(benchmark: Benchmark) -> bool:
    """Whether the score is computed over all documents instead of per subset."""
    return benchmark.aggregation in _POOLED


def estimate(docs: Documents, n_draws: int = N_DRAWS, seed: int = 0) -> Estimate:
    """The normalized score of one side with its 95 % interval."""
    drawn = draws(docs.subsets, docs.pooled, n_draws, seed)[:, 0]
    value = float(measured(docs.subsets, docs.pooled)[0])
    plain = make_estimate(value, drawn, docs.n, lowest_of(docs.formula))
    return plain.model_copy(update={"clusters": cluster_count(docs)})


def average_estimate(benchmarks: Sequence[Documents], n_draws: int = N_DRAWS, seed: int = 0) -> Estimate:
    """The plain mean of several benchmarks' normalized scores with its 95 % interval."""
    drawn = np.mean([draws(d.subsets, d.pooled, n_draws, seed)[:, 0] for d in benchmarks], axis=0)
    value = float(np.mean([measured(d.subsets, d.pooled)[0] for d in benchmarks]))
    return make_estimate(value, drawn, sum(d.n for d in benchmarks))


def delta(docs: Documents, n_draws: int = N_DRAWS, seed: int = 0) -> Delta:
    """Candidate (side 1) minus base (side 0)."""
    return delta_of(paired_draws(docs, n_draws, seed))


def paired_draws(
    docs: Documents, n_draws: int = N_DRAWS, seed: int = 0, *, mcnemar: bool = False
) -> PairedDraws:
    """The draws of one benchmark's delta: base is side 0, the candidate side 1.

    With `mcnemar`, the delta of right or wrong answers is tested by the exact McNemar test alone.
    """
    errors, scaled = difference_draws(docs.subsets, docs.pooled, n_draws, seed)
    return PairedDraws(
        sides=measured(docs.subsets, docs.pooled),
        errors=errors,
        spread_points=float(scaled.std()),
        parts=() if docs.of_formula else swap_parts(docs.subsets, docs.pooled),
        better=_per_document(docs),
        exact=mcnemar and is_binary(docs),
        bootstrap=docs.of_formula,
        clusters=cluster_count(docs),
    )


def is_binary(docs: Documents) -> bool:
    """Whether every answer is right or wrong and the score is the share of right ones: no floor, one metric, pooled."""
    plain = docs.pooled or len(docs.subsets) == 1
    return plain and all(
        s.sums is None
        and s.lower_bound == 0
        and s.clusters is None
        and s.values.shape[2] == 1
        and bool(np.isin(s.values, (0.0, 1.0)).all())
        for s in docs.subsets
    )


def average_draws(benchmarks: Sequence[PairedDraws]) -> PairedDraws:
    """The draws of the delta of the plain mean over several benchmarks."""
    share = 1 / len(benchmarks)
    return PairedDraws(
        sides=np.mean([b.sides for b in benchmarks], axis=0),
        errors=np.mean([b.errors for b in benchmarks], axis=0),
        spread_points=share * math.hypot(*(b.spread_points for b in benchmarks)),
        parts=tuple(part.scaled(share) for b in benchmarks for part in b.parts),
        better=np.concatenate([b.better for b in benchmarks]),
        bootstrap=any(b.bootstrap for b in benchmarks),
        clusters=_sum_of_clusters(benchmarks),
    )


def _sum_of_clusters(benchmarks: Sequence[PairedDraws]) -> int | None:
    """Number of clusters of several benchmarks; a document without one counts as one. None if none has clusters."""
    if all(b.clusters is None for b in benchmarks):
        return None
    return sum(len(b.better) if b.clusters is None else b.clusters for b in benchmarks)


def delta_of(draws: PairedDraws) -> Delta:
    """The delta, its p-value and the interval of all deltas that the same test does not reject.

    The test rejects if both the exact sign-flip test and the symmetric bootstrap reject: p is the larger of their p-values, and
    the interval is the wider of theirs. The sign-flip test keeps the error rate if base and candidate are exchangeable, for any
    number of flips and far out in the tail; the bootstrap if they are not, for example if the floor hides a change.

    If the draws are `exact`, p is that of the exact McNemar test alone, and the interval is shortened to exclude 0 in the few
    cases in which only the bootstrap does not reject. Metrics over all documents (F1, BLEU) have the bootstrap alone.
    """
    base, candidate = float(draws.sides[0]), float(draws.sides[1])
    points = candidate - base if abs(candidate - base) > _ROUNDING else 0.0
    half, p = reach(draws.errors), bootstrap_p(draws.errors + points, points)
    if not draws.bootstrap:
        swaps = distribution(draws.parts)
        half = max(half, swaps.reach())
        p = swaps.p(points) if draws.exact else max(p, swaps.p(points))
        if draws.exact and p < _ALPHA:
            half = min(half, abs(points) * (1 - 1e-6))
    return Delta(
        base=base,
        candidate=candidate,
        delta_points=points,
        delta_percent=(candidate / base - 1) * 100 if base > 0 else None,
        interval=symmetric(points, half, limit=limit_of(base, candidate)),
        stderr_points=float(draws.errors.std()),
        detectable_points=detectable(max(float(draws.errors.std()), draws.spread_points)),
        test=_test_of(draws),
        p=p,
        n=len(draws.better),
        gained=int((draws.better > 0).sum()),
        lost=int((draws.better < 0).sum()),
        clusters=draws.clusters,
    )


def _test_of(draws: PairedDraws) -> SignificanceTest:
    if draws.bootstrap:
        return SignificanceTest.BOOTSTRAP
    return SignificanceTest.MCNEMAR if draws.exact else SignificanceTest.SIGN_FLIP


def symmetric(points: float, half: float, limit: float = 100.0) -> Interval:
    """The interval `points` ± `half`, clipped to [-`limit`, `limit`]."""
    return Interval(low=max(-limit, points - half), high=min(limit, points + half))


def limit_of(base: float, candidate: float) -> float:
    """The largest difference: 100 points of a share; scores above 100 are none (bits per byte), nor are correlations below 0."""
    return 100.0 if min(base, candidate) >= 0.0 and max(base, candidate) <= 100.0 else math.inf


def make_estimate(value: float, drawn: Floats, n: int, lowest: float = 0.0) -> Estimate:
    """A score with the interval of its draws, clipped to [`lowest`, 100] and extended to contain the score.

    A score above 100 is no share (bits per byte), and has no upper limit.
    """
    span = interval(drawn)
    top = 100.0 if value <= 100.0 else math.inf
    low, high = max(lowest, min(span.low, value)), min(top, max(span.high, value))
    clipped = span.model_copy(update={"low": low, "high": high})
    return Estimate(value=value, interval=clipped, stderr_points=float(drawn.std()), n=n)


def flips(docs: Documents) -> Flips:
    """Number of documents that both, neither or one side answered correctly; 0.5 or more counts as correct."""
    correct = np.concatenate([s.values.mean(axis=2) for s in docs.subsets]) >= 0.5
    base, candidate = correct[:, 0], correct[:, 1]
    return Flips(
        both_right=int((base & candidate).sum()),
        both_wrong=int((~base & ~candidate).sum()),
        gained=int((~base & candidate).sum()),
        lost=int((base & ~candidate).sum()),
    )


def bootstrap_p(drawn: Floats, observed: float) -> float:
    """Two-sided p-value of 'the delta is 0' from draws around the observed delta; 1 if that is 0."""
    if observed == 0:
        return 1.0
    beyond = int((np.abs(drawn - observed) >= abs(observed)).sum())
    p = (beyond + 1) / (len(drawn) + 1)
    if beyond < _FEW_DRAWS and (spread := float(drawn.std())) > 0:
        p = min(p, float(2 * scipy.stats.norm.sf(abs(observed) / spread)))
    return min(1.0, p)


def detectable(stderr_points: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true delta that is detected with this power at this two-sided alpha."""
    return float((scipy.stats.norm.ppf(1 - alpha / 2) + scipy.stats.norm.ppf(power)) * stderr_points)


def _first_repeat(side: Sequence[Sample]) -> str:
    keys: set[tuple[str, int]] = set()
    for sample in side:
        if (sample.subset, sample.doc_id) in keys:
            return f"Document {sample.doc_id} of {sample.subset}"
        keys.add((sample.subset, sample.doc_id))
    return "A document"


def _subset(
    name: str,
    keys: list[tuple[str, int]],
    keyed: Sequence[dict[tuple[str, int], Sample]],
    benchmark: Benchmark,
) -> SubsetDocuments:
    chance = benchmark.subset(name).lower_bound
    values = np.array(
        [[[_value(k[key], m, benchmark) for m in benchmark.metrics] for k in keyed] for key in keys]
    )
    weights = np.array([[keyed[0][key].weights.get(m, 1.0) for m in benchmark.metrics] for key in keys])
    bound = chance if benchmark.aggregation.normalizes else 0.0
    return SubsetDocuments(
        name,
        bound,
        values,
        weights,
        _clusters(keys, keyed),
        weight=benchmark.weight(name),
        unbounded=benchmark.lower_is_better,
        formula=benchmark.formula,
        sums=_sums(keys, keyed, benchmark),
    )


def has_sums(samples: Sequence[Sample], benchmark: Benchmark) -> bool:
    """Whether samples determine the score: always for a mean over documents, else if each has its vector."""
    return benchmark.formula is None or all(sample.sums for sample in samples)


def lowest_of(formula: Formula | None) -> float:
    """The lowest score in points: -100 for a correlation, else 0."""
    return -100.0 if formula is Formula.MCC else 0.0


def _sums(
    keys: list[tuple[str, int]], keyed: Sequence[dict[tuple[str, int], Sample]], benchmark: Benchmark
) -> Floats | None:
    """The vectors of a metric over all documents, shape (documents, sides, k); None for a mean over documents."""
    if benchmark.formula is None:
        return None
    if not all(has_sums(list(side.values()), benchmark) for side in keyed):
        raise EvaluationError(
            f"The samples of {benchmark.title} do not determine {benchmark.metrics[0]}, which is computed over all documents: evaluate it "
            "again, or compare another metric."
        )
    return statistics(benchmark.formula, np.array([[side[key].sums for side in keyed] for key in keys]))


def _clusters(
    keys: list[tuple[str, int]], keyed: Sequence[dict[tuple[str, int], Sample]]
) -> NDArray[np.int64] | None:
    """The cluster of each document, from the first side that knows it; None if there are none or too few.

    A document without a cluster is one of its own.
    """
    names = [next((c for side in keyed if (c := side[key].cluster) is not None), None) for key in keys]
    distinct = {c for c in names if c is not None}
    if len(distinct) < LEAST_CLUSTERS or len(distinct) == len(keys):
        return None
    labels = [c if c is not None else f"{key}" for c, key in zip(names, keys, strict=True)]
    _, inverse = np.unique(labels, return_inverse=True)
    return np.asarray(inverse, dtype=np.int64)


def cluster_count(docs: Documents) -> int | None:
    """Number of clusters of a benchmark's documents, those alone included; None if none of its subsets has clusters."""
    if all(s.clusters is None for s in docs.subsets):
        return None
    return sum(s.n if s.clusters is None else int(s.clusters.max()) + 1 for s in docs.subsets)


def _value(sample: Sample, metric: str, benchmark: Benchmark) -> float:
    value = sample.metrics.get(metric, math.nan)
    # Bits per byte, of which fewer are better, have no upper limit.
    if not 0.0 <= value <= (sys.float_info.max if benchmark.lower_is_better else 1.0):
        raise EvaluationError(
            f"Document {sample.doc_id} of {sample.subset} has no {metric} between 0 and 1: evaluate it again."
        )
    return value


def _per_document(docs: Documents) -> Floats:
    """How much better the candidate is than the base on every document, its metrics averaged."""
    differences: Floats = np.concatenate(
        [(s.values[:, 1] - s.values[:, 0]).mean(axis=1) for s in docs.subsets]
    )
    return -differences if docs.lower_is_better else differences
