"""From the scores of subsets to a leaderboard's columns and average. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from evals.errors import SuiteError
from evals.scores import BenchmarkScore, Score, SuiteScore
from evals.suite import Aggregation, Benchmark, Suite


def normalized(raw: float, lower_bound: float) -> float:
    """A raw score as the leaderboard shows it, 0 to 100: nothing at or below random guessing, 100 for everything right."""
    if raw < lower_bound:
        return 0.0
    return 100.0 * (raw - lower_bound) / (1.0 - lower_bound)


def raw_value(benchmark: Benchmark, scores: Sequence[Score], *, metric: str | None = None) -> float:
    """The benchmark's raw value as the board's raw column has it, 0 to 1."""
    metrics = benchmark.metrics if metric is None else (metric,)
    by_metric = [_of_metric(benchmark, scores, m) for m in metrics]
    if benchmark.aggregation in (Aggregation.SUBSET_MEAN_NORMALIZED, Aggregation.SUBSET_MEAN):
        return fmean(fmean(s.value for s in group) for group in by_metric)
    return fmean(_pooled([s.value for s in group], group) for group in by_metric)


def normalized_value(benchmark: Benchmark, scores: Sequence[Score], *, metric: str | None = None) -> float:
    """The benchmark's value as the leaderboard shows it, 0 to 100."""
    raw = raw_value(benchmark, scores, metric=metric)
    if not benchmark.aggregation.normalizes:
        return 100.0 * raw
    metrics = benchmark.metrics if metric is None else (metric,)
    by_metric = [_of_metric(benchmark, scores, m) for m in metrics]
    if benchmark.aggregation is Aggregation.SUBSET_MEAN_NORMALIZED:
        return fmean(fmean(normalized(s.value, s.lower_bound) for s in group) for group in by_metric)
    return normalized(raw, _pooled([s.lower_bound for s in by_metric[0]], by_metric[0]))


def benchmark_score(
    benchmark: Benchmark,
    scores: Sequence[Score],
    *,
    differences: Sequence[str] = (),
    stage: str | None = None,
) -> BenchmarkScore:
    """The benchmark's column from the scores of its subsets.

    `differences` says in what the run was not the board's; `stage` picks one of several scoring procedures.
    """
    metric = None
    if stage is not None:
        metric = benchmark.stage(stage).metric
        if metric is None:
            raise SuiteError(
                f"Stage {stage} of '{benchmark.name}' cannot be restored: {benchmark.stage(stage).remark}"
            )
    first = _of_metric(benchmark, scores, metric or benchmark.metrics[0])
    there = {s.subset for s in first}
    partial = any(s.partial for s in first) or any(s.task not in there for s in benchmark.subsets)
    remarks = [*([benchmark.remark] if benchmark.remark else []), *differences]
    alarms = {(a.kind, a.share): a for s in scores if s.subset in there for a in s.alarms}
    return BenchmarkScore(
        benchmark=benchmark.name,
        title=benchmark.title,
        metric=metric or " and ".join(benchmark.metrics),
        raw=raw_value(benchmark, scores, metric=metric),
        normalized=normalized_value(benchmark, scores, metric=metric),
        n=sum(s.n for s in first),
        partial=partial,
        comparable_to_board=not remarks,
        remark=" ".join(remarks) or None,
        alarms=tuple(alarms.values()),
    )


def suite_score(suite: Suite, results: Sequence[BenchmarkScore]) -> SuiteScore:
    """All columns and, only where every one is there and whole, the board's average: the plain mean, never rounded."""
    by_name = {r.benchmark: r for r in results}
    unknown = sorted(set(by_name) - {b.name for b in suite.benchmarks})
    if unknown:
        raise SuiteError(
            f"Suite '{suite.name}' has no benchmark '{unknown[0]}'; score it with the suite that has it."
        )
    there = tuple(by_name[b.name] for b in suite.benchmarks if b.name in by_name)
    missing = tuple(b.name for b in suite.benchmarks if b.name not in by_name)
    whole = not missing and not any(r.partial for r in there)
    mean = fmean(r.normalized for r in there) if there else None
    return SuiteScore(
        suite=suite.name,
        benchmarks=there,
        missing=missing,
        average=mean if whole else None,
        partial_average=mean,
    )


def _of_metric(benchmark: Benchmark, scores: Sequence[Score], metric: str) -> list[Score]:
    tasks = [s.task for s in benchmark.subsets]
    found = {s.subset: s for s in scores if s.metric == metric and s.subset in tasks}
    if not found:
        raise SuiteError(
            f"There is no score '{metric}' of benchmark '{benchmark.name}'; evaluate it first, or import results with it."
        )
    return [found[task] for task in tasks if task in found]


def _pooled(values: Sequence[float], scores: Sequence[Score]) -> float:
    return sum(v * s.n for v, s in zip(values, scores, strict=True)) / sum(s.n for s in scores)
