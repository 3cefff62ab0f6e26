"""Scores, deltas and their tests from the documents that two checkpoints answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from evals.errors import EvaluationError
from evals.scores import Sample
from evals.stats.records import Delta, Estimate, Flips, SignificanceTest
from evals.stats.resample import N_DRAWS, Floats, Subset, draws, interval, measured
from evals.suite import Aggregation, Benchmark

# Below this many draws beyond zero, the tail is read from a normal curve instead of counted.
_FEW_DRAWS = 10

_POOLED = (Aggregation.POOLED, Aggregation.POOLED_NORMALIZED, Aggregation.METRIC_MEAN)


@dataclass(frozen=True)
class Documents:
    """The documents of one benchmark, answered by one side (a score) or by base and candidate (a delta)."""

    subsets: tuple[Subset, ...]
    pooled: bool

    @property
    def n(self) -> int:
        """Number of documents."""
        return sum(s.n for s in self.subsets)

    @property
    def right_or_wrong(self) -> bool:
        """Whether every document is one metric that is 0 or 1."""
        return all(s.values.shape[2] == 1 and bool(np.isin(s.values, (0.0, 1.0)).all()) for s in self.subsets)


def documents(sides: Sequence[Sequence[Sample]], benchmark: Benchmark) -> Documents:
    """The documents that every side answered, in one order; those that only some sides have are left out."""
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
    return Documents(subsets, pooled(benchmark))


def pooled(benchmark: Benchmark) -> bool:
    """Whether all documents are pooled before the score is taken, instead of subset by subset."""
    return benchmark.aggregation in _POOLED


def estimate(docs: Documents, n_draws: int = N_DRAWS, seed: int = 0) -> Estimate:
    """The normalized score of one side with its 95 % interval."""
    drawn = draws(docs.subsets, docs.pooled, n_draws, seed)[:, 0]
    return make_estimate(float(measured(docs.subsets, docs.pooled)[0]), drawn, docs.n)


def average_estimate(benchmarks: Sequence[Documents], n_draws: int = N_DRAWS, seed: int = 0) -> Estimate:
    """The plain mean of several benchmarks' normalized scores with its 95 % interval."""
    drawn = np.mean([draws(d.subsets, d.pooled, n_draws, seed)[:, 0] for d in benchmarks], axis=0)
    value = float(np.mean([measured(d.subsets, d.pooled)[0] for d in benchmarks]))
    return make_estimate(value, drawn, sum(d.n for d in benchmarks))


def delta(docs: Documents, n_draws: int = N_DRAWS, seed: int = 0) -> Delta:
    """Candidate (side 1) minus base (side 0): exact McNemar for right or wrong, bootstrap for the rest."""
    sides = measured(docs.subsets, docs.pooled)
    drawn = _difference(docs, n_draws, seed)
    better = _per_document(docs)
    if docs.right_or_wrong:
        test, p = SignificanceTest.MCNEMAR, mcnemar_p(int((better > 0).sum()), int((better < 0).sum()))
    else:
        test, p = SignificanceTest.BOOTSTRAP, bootstrap_p(drawn, float(sides[1] - sides[0]))
    return _delta(sides, drawn, (test, p), better)


def average_delta(benchmarks: Sequence[Documents], n_draws: int = N_DRAWS, seed: int = 0) -> Delta:
    """The delta of the plain mean over several benchmarks, each document drawn within its subset."""
    sides: Floats = np.mean([measured(d.subsets, d.pooled) for d in benchmarks], axis=0)
    drawn: Floats = np.mean([_difference(d, n_draws, seed) for d in benchmarks], axis=0)
    better = np.concatenate([_per_document(d) for d in benchmarks])
    p = bootstrap_p(drawn, float(sides[1] - sides[0]))
    return _delta(sides, drawn, (SignificanceTest.BOOTSTRAP, p), better)


def make_estimate(value: float, drawn: Floats, n: int) -> Estimate:
    """A score with the interval that its draws give, cut to what a score can be."""
    span = interval(drawn)
    clipped = span.model_copy(update={"low": max(0.0, span.low), "high": min(100.0, span.high)})
    return Estimate(value=value, interval=clipped, stderr_points=float(drawn.std()), n=n)


def flips(docs: Documents) -> Flips:
    """How many documents both, neither or only one side answered rightly; 0.5 and more counts as right."""
    right = np.concatenate([s.values.mean(axis=2) for s in docs.subsets]) >= 0.5
    base, candidate = right[:, 0], right[:, 1]
    return Flips(
        both_right=int((base & candidate).sum()),
        both_wrong=int((~base & ~candidate).sum()),
        gained=int((~base & candidate).sum()),
        lost=int((base & ~candidate).sum()),
    )


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact two-sided McNemar: of the documents that flipped, was it a fair coin? 1 where none flipped."""
    if gained + lost == 0:
        return 1.0
    return float(scipy.stats.binomtest(gained, gained + lost, 0.5).pvalue)


def bootstrap_p(drawn: Floats, observed: float) -> float:
    """Two-sided p-value of 'the delta is 0' from draws around the observed delta; 1 where it is exactly 0."""
    if observed == 0:
        return 1.0
    beyond = int((drawn <= 0).sum() if observed > 0 else (drawn >= 0).sum())
    counted = 2 * (beyond + 1) / (len(drawn) + 1)
    if beyond < _FEW_DRAWS:
        counted = min(counted, float(2 * scipy.stats.norm.sf(abs(observed) / drawn.std())))
    return min(1.0, counted)


def detectable(stderr_points: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true delta that is found with this power at this two-sided alpha."""
    return float((scipy.stats.norm.ppf(1 - alpha / 2) + scipy.stats.norm.ppf(power)) * stderr_points)


def detectable_with(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference (a fraction) that McNemar finds on n documents of which a share flips.

    The sample-size formula of Connor (1987), solved for the difference. It cannot exceed the discordance:
    where even that would not be found, the answer is 1.
    """
    if n < 1 or not 0 < discordance <= 1:
        raise EvaluationError(
            "A detectable difference needs at least one document and a discordance in (0, 1]."
        )
    z_alpha, z_power = scipy.stats.norm.ppf(1 - alpha / 2), scipy.stats.norm.ppf(power)

    def excess(difference: float) -> float:
        spread = math.sqrt(max(0.0, discordance - difference**2))
        return float(difference * math.sqrt(n) - z_alpha * math.sqrt(discordance) - z_power * spread)

    if excess(discordance) < 0:
        return 1.0
    return float(scipy.optimize.brentq(excess, 0.0, discordance))


def _first_repeat(side: Sequence[Sample]) -> str:
    seen: set[tuple[str, int]] = set()
    for sample in side:
        if (sample.subset, sample.doc_id) in seen:
            return f"Document {sample.doc_id} of {sample.subset}"
        seen.add((sample.subset, sample.doc_id))
    return "A document"


def _subset(
    name: str,
    keys: list[tuple[str, int]],
    keyed: Sequence[dict[tuple[str, int], Sample]],
    benchmark: Benchmark,
) -> Subset:
    chance = benchmark.subset(name).lower_bound
    values = np.array([[[_value(k[key], m) for m in benchmark.metrics] for k in keyed] for key in keys])
    weights = np.array([[keyed[0][key].weights.get(m, 1.0) for m in benchmark.metrics] for key in keys])
    return Subset(name, chance if benchmark.aggregation.normalizes else 0.0, values, weights)


def _value(sample: Sample, metric: str) -> float:
    value = sample.metrics.get(metric, math.nan)
    if not 0.0 <= value <= 1.0:
        raise EvaluationError(
            f"Document {sample.doc_id} of {sample.subset} has no {metric} between 0 and 1: evaluate it again."
        )
    return value


def _difference(docs: Documents, n_draws: int, seed: int) -> Floats:
    drawn = draws(docs.subsets, docs.pooled, n_draws, seed)
    difference: Floats = drawn[:, 1] - drawn[:, 0]
    return difference


def _per_document(docs: Documents) -> Floats:
    """Candidate minus base of every document, its metrics averaged."""
    return np.concatenate([(s.values[:, 1] - s.values[:, 0]).mean(axis=1) for s in docs.subsets])


def _delta(sides: Floats, drawn: Floats, test: tuple[SignificanceTest, float], better: Floats) -> Delta:
    base, candidate = float(sides[0]), float(sides[1])
    return Delta(
        base=base,
        candidate=candidate,
        delta_points=candidate - base,
        delta_percent=(candidate / base - 1) * 100 if base > 0 else None,
        interval=interval(drawn),
        stderr_points=float(drawn.std()),
        detectable_points=detectable(float(drawn.std())),
        test=test[0],
        p=test[1],
        n=len(better),
        gained=int((better > 0).sum()),
        lost=int((better < 0).sum()),
    )
