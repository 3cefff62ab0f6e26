"""Intervals and tests from scores without samples.

Each subset's metric is drawn from a distribution given by its value and number of documents: beta for a share
of correct answers (with one imaginary correct and one wrong document in all, as in `resample`), normal if the
recorded standard error is not that of a share. Several metrics of one subset are drawn fully correlated. Two sets
of scores are compared as if on different documents, so that the interval is wider than the paired one; the result
is marked as unpaired.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

from evals.errors import EvaluationError
from evals.scores import Score
from evals.stats.estimates import Delta, Estimate, Interval, SignificanceTest
from evals.stats.paired import bootstrap_p, detectable, limit_of, lowest_of, make_estimate, pooled, symmetric
from evals.stats.resample import N_DRAWS, Floats, SubsetDocuments, combine, reach
from evals.suite import Benchmark

_ANY = 1e12  # stands for no limit in an unknown interval: stores and JSON hold no infinity


def estimate_from_scores(
    scores: Sequence[Score], benchmark: Benchmark, n_draws: int = N_DRAWS, seed: int = 0
) -> Estimate:
    """A benchmark's normalized score with its 95 % interval, from the scores of its subsets."""
    value, drawn, n = _draws(scores, benchmark, n_draws, seed)
    return make_estimate(value, drawn, n, lowest_of(benchmark.formula))


def unknown_estimate(value: float, n: int) -> Estimate:
    """The estimate of a score without a known interval: 0 to 100 points, or any value if the score lies outside."""
    low, high = (0.0 if value >= 0 else -_ANY), (100.0 if value <= 100 else _ANY)
    return Estimate(value=value, interval=Interval(low=low, high=high), stderr_points=100.0, n=max(1, n))


def missing_error(scores: Sequence[Score], benchmark: Benchmark) -> str | None:
    """Name of the first score without which no interval can be given: no share, and without a standard error; None if there is none."""
    if not (benchmark.lower_is_better or benchmark.formula):
        return None
    of_column = (s for s in scores if s.metric in benchmark.metrics)
    return next((f"{s.metric} of {s.subset}" for s in of_column if not _has_error(s)), None)


def _has_error(score: Score) -> bool:
    return score.stderr is not None and math.isfinite(score.stderr)


def unpaired_delta(
    base: Sequence[Score],
    candidate: Sequence[Score],
    benchmark: Benchmark,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Delta:
    """Candidate minus base from their scores alone."""
    value_base, drawn_base, n_base = _draws(base, benchmark, n_draws, 2 * seed)
    value, drawn_candidate, n = _draws(candidate, benchmark, n_draws, 2 * seed + 1)
    errors = drawn_candidate - drawn_base - (value - value_base)
    difference = value - value_base if abs(value - value_base) > 1e-9 else 0.0
    return Delta(
        base=value_base,
        candidate=value,
        delta_points=difference,
        delta_percent=(value / value_base - 1) * 100 if value_base > 0 else None,
        interval=symmetric(difference, reach(errors), limit=limit_of(value_base, value)),
        stderr_points=float(errors.std()),
        detectable_points=detectable(float(errors.std())),
        test=SignificanceTest.UNPAIRED,
        p=bootstrap_p(errors + difference, difference),
        n=min(n, n_base),
        gained=None,
        lost=None,
    )


def _draws(
    scores: Sequence[Score], benchmark: Benchmark, n_draws: int, seed: int
) -> tuple[float, Floats, int]:
    """The measured normalized score, draws around it, and the number of documents."""
    by_subset: dict[str, dict[str, Score]] = {}
    for score in scores:
        if score.metric in benchmark.metrics:
            by_subset.setdefault(score.subset, {})[score.metric] = score
    complete = {name: scored for name, scored in by_subset.items() if len(scored) == len(benchmark.metrics)}
    if not complete:
        metric_names = " and ".join(benchmark.metrics)
        raise EvaluationError(
            f"There is no {metric_names} among the scores of {benchmark.title}: nothing to compare."
        )
    sizes = {name: next(iter(scored.values())).n for name, scored in complete.items()}
    total = sum(sizes.values())
    subsets, drawn, at_value = [], [], []
    for name, scored in sorted(complete.items()):
        bound = benchmark.subset(name).lower_bound if benchmark.aggregation.normalizes else 0.0
        n, metrics = sizes[name], [scored[m] for m in benchmark.metrics]
        subsets.append(
            SubsetDocuments(
                name,
                bound,
                np.zeros((n, 1, len(metrics))),
                np.ones((n, len(metrics))),
                weight=benchmark.weight(name),
                formula=benchmark.formula,
            )
        )
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if benchmark.lower_is_better or benchmark.formula:
            lowest = lowest_of(benchmark.formula) / 100
            values = np.stack([_drawn_size(s, n_draws, rng, lowest) for s in metrics], axis=1)[:, None, :]
        else:
            values = np.stack(_drawn(metrics, n / total, n_draws, rng), axis=1)[:, None, :]
        drawn.append((values * n, np.full((n_draws, len(metrics)), float(n))))
        point = np.array([s.value for s in metrics])[None, None, :]
        at_value.append((point * n, np.full((1, len(metrics)), float(n))))
    value = float(combine(subsets, at_value, pooled(benchmark))[0, 0])
    spread = combine(subsets, drawn, pooled(benchmark))[:, 0]
    return value, spread - spread.mean() + value, total


def _drawn(metrics: Sequence[Score], share: float, n_draws: int, rng: np.random.Generator) -> list[Floats]:
    """Draws of the metrics of one subset; several metrics share one quantile."""
    if len(metrics) > 1:
        quantile = rng.uniform(size=n_draws)
        return [np.clip(_distribution(s, share).ppf(quantile), 0.0, 1.0) for s in metrics]
    return [np.clip(_distribution(metrics[0], share).rvs(size=n_draws, random_state=rng), 0.0, 1.0)]


def _drawn_size(score: Score, n_draws: int, rng: np.random.Generator, lowest: float) -> Floats:
    """Draws of a metric that is no share (bits per byte, F1): normal with the recorded error."""
    if score.stderr is None or not _has_error(score):
        raise EvaluationError(
            f"{score.metric} of {score.subset} has neither samples nor a standard error: evaluate with samples kept."
        )
    drawn: Floats = np.maximum(lowest, rng.normal(score.value, score.stderr, n_draws))
    return drawn


def _distribution(score: Score, share: float) -> Any:
    """Distribution of the true value: beta for a share of correct answers, else normal with the recorded error."""
    n_correct = score.value * score.n
    share_stderr = math.sqrt(score.value * (1 - score.value) / score.n)
    if score.stderr is not None and abs(score.stderr - share_stderr) > 0.1 * share_stderr + 1e-6:
        return scipy.stats.norm(loc=score.value, scale=max(score.stderr, 1e-12))
    return scipy.stats.beta(n_correct + share, score.n - n_correct + share)
