"""Computes a leaderboard's columns and average from the scores of subsets. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from evals.errors import SuiteError
from evals.scores import BenchmarkScore, Score, SuiteScore
from evals.suite import Aggregation, Benchmark, Suite


def normalized(raw: float, lower_bound: float) -> float:
    """A raw score on the leaderboard's scale: 0 at or below random guessing, 100 for all correct."""
    if raw < lower_bound:
        return 0.0
    return 100.0 * (raw - lower_bound) / (1.0 - lower_bound)


def raw_value(benchmark: Benchmark, scores: Sequence[Score], *, metric: str | None = None) -> float:
    """The benchmark's raw value as in the board's raw column, 0 to 1."""
    metrics = benchmark.metrics if metric is None else (metric,)
    by_metric = [_scores_of_metric(benchmark, scores, m) for m in metrics]
    if benchmark.aggregation.of_subsets:
        return fmean(_subset_mean(benchmark, group, [s.value for s in group]) for group in by_metric)
    return fmean(_pooled_mean([s.value for s in group], group) for group in by_metric)


def normalized_value(benchmark: Benchmark, scores: Sequence[Score], *, metric: str | None = None) -> float:
    """The benchmark's value on the leaderboard's scale, 0 to 100."""
    raw = raw_value(benchmark, scores, metric=metric)
    if not benchmark.aggregation.normalizes:
        return 100.0 * raw
    metrics = benchmark.metrics if metric is None else (metric,)
    by_metric = [_scores_of_metric(benchmark, scores, m) for m in metrics]
    if benchmark.aggregation is Aggregation.SUBSET_MEAN_NORMALIZED:
        return fmean(
            _subset_mean(benchmark, group, [normalized(s.value, s.lower_bound) for s in group])
            for group in by_metric
        )
    return normalized(raw, _pooled_mean([s.lower_bound for s in by_metric[0]], by_metric[0]))


def benchmark_score(
    benchmark: Benchmark,
    scores: Sequence[Score],
    *,
    differences: Sequence[str] = (),
    stage: str | None = None,
) -> BenchmarkScore:
    """The benchmark's column from the scores of its subsets.

    `differences` lists deviations from the board's procedure; `stage` selects one of several scoring procedures.
    """
    metric = None
    if stage is not None:
        metric = benchmark.stage(stage).metric
        if metric is None:
            raise SuiteError(
                f"Stage {stage} of '{benchmark.name}' cannot be restored: {benchmark.stage(stage).remark}"
            )
    first_scores = _scores_of_metric(benchmark, scores, metric or benchmark.metrics[0])
    subsets = {s.subset for s in first_scores}
    partial = any(s.partial for s in first_scores) or any(s.task not in subsets for s in benchmark.subsets)
    remarks = [*([benchmark.remark] if benchmark.remark else []), *differences]
    alarms = {(a.kind, a.share): a for s in scores if s.subset in subsets for a in s.alarms}
    return BenchmarkScore(
        benchmark=benchmark.name,
        title=benchmark.title,
        metric=metric or " and ".join(benchmark.metrics),
        raw=raw_value(benchmark, scores, metric=metric),
        normalized=normalized_value(benchmark, scores, metric=metric),
        n=sum(s.n for s in first_scores),
        partial=partial,
        comparable_to_board=not remarks,
        remark=" ".join(remarks) or None,
        alarms=tuple(alarms.values()),
    )


def suite_score(suite: Suite, results: Sequence[BenchmarkScore]) -> SuiteScore:
    """All columns and, if none is missing or partial, the board's average: the plain mean, not rounded."""
    by_name = {r.benchmark: r for r in results}
    unknown = sorted(set(by_name) - {b.name for b in suite.benchmarks})
    if unknown:
        raise SuiteError(
            f"Suite '{suite.name}' has no benchmark '{unknown[0]}'; score it with the suite that has it."
        )
    present = tuple(by_name[b.name] for b in suite.benchmarks if b.name in by_name)
    missing = tuple(b.name for b in suite.benchmarks if b.name not in by_name)
    complete = not missing and not any(r.partial for r in present)
    mean = fmean(r.normalized for r in present) if present and suite.has_average else None
    return SuiteScore(
        suite=suite.name,
        benchmarks=present,
        missing=missing,
        average=mean if complete else None,
        partial_average=mean,
    )


def _scores_of_metric(benchmark: Benchmark, scores: Sequence[Score], metric: str) -> list[Score]:
    tasks = [s.task for s in benchmark.subsets]
    by_subset = {s.subset: s for s in scores if s.metric == metric and s.subset in tasks}
    if not by_subset:
        raise SuiteError(
            f"There is no score '{metric}' of benchmark '{benchmark.name}'; evaluate it first, or import results with it."
        )
    return [by_subset[task] for task in tasks if task in by_subset]


def _subset_mean(benchmark: Benchmark, scores: Sequence[Score], values: Sequence[float]) -> float:
    """The mean over subsets, weighted where the benchmark gives weights."""
    if not benchmark.weights:
        return fmean(values)
    return fmean(values, [benchmark.weight(score.subset) for score in scores])


def _pooled_mean(values: Sequence[float], scores: Sequence[Score]) -> float:
    return sum(v * s.n for v, s in zip(values, scores, strict=True)) / sum(s.n for s in scores)
