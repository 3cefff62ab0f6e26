"""Sides of a comparison: a benchmark's result with its samples, from our evaluations or imported runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from evals.claims.facts import Fact, facts_of, stage_of
from evals.claims.records import Measurement, SuiteMeasurement
from evals.normalize import benchmark_score
from evals.results_files import ImportedRun, samples_of
from evals.results_files.unlisted import unlisted_score, with_column
from evals.scores import BenchmarkScore, Evaluation, Sample, Score
from evals.stats import (
    Estimate,
    Interval,
    average_estimate,
    documents,
    estimate,
    estimate_from_scores,
    has_sums,
    missing_error,
    unknown_estimate,
)
from evals.suite import Benchmark, Suite
from orchestrator.store.records import Protocol


@dataclass(frozen=True)
class Side:
    """The result of one checkpoint on one benchmark; without samples only its scores can be compared.

    `definition` is the digest of the benchmark definition with which an imported run was read, `notes` are
    remarks for the reader, and `unfit` is the reason why the result must not be compared. `benchmark` is the
    definition itself for an imported task that no suite contains.
    """

    measurement: Measurement
    samples: tuple[Sample, ...] = ()
    definition: str | None = None
    notes: tuple[str, ...] = ()
    unfit: str | None = None
    benchmark: Benchmark | None = None

    @property
    def suite(self) -> str | None:
        """The suite of the result; None if an import does not say it."""
        return self.measurement.facts.get(Fact.SUITE)

    def outdated(self, benchmark: Benchmark) -> bool:
        """Whether it was measured with another definition of the benchmark than the current one."""
        definition = self.definition or self.measurement.facts.get(Fact.DEFINITION)
        return definition is not None and definition != benchmark.digest


def measurement_of(
    evaluation: Evaluation,
    benchmark: Benchmark | None,
    checkpoint: str,
    samples: Sequence[Sample] = (),
    *,
    protocol: Protocol | None = None,
    quantization: str | None = None,
    with_interval: bool = True,
) -> Measurement:
    """The measurement of one of our own evaluations; `quantization` is that of the weights, if known.

    Without `with_interval` the score's own interval is left unknown: a difference does not take it, and it costs a
    third of a comparison.

    `benchmark` is the current definition, None if it no longer exists. An evaluation with another definition
    keeps its stored normalized score, and its interval is unknown: 0 to 100.
    """
    facts = facts_of(evaluation).plus(
        {
            Fact.QUANTIZATION: quantization,
            Fact.DATA: protocol.dataset_digest if protocol is not None else None,
            **(versions_of_scorer(protocol.scorer) if protocol is not None else {}),
        }
    )
    if benchmark is None or benchmark.digest != evaluation.benchmark_digest:
        score_estimate = _of_value(evaluation.result)
    else:
        facts = facts.plus(
            {Fact.SHOTS: str(benchmark.shots), Fact.STAGE: stage_of(benchmark, benchmark.metrics[0])}
        )
        score_estimate = (
            _estimate(samples, evaluation.scores, benchmark, evaluation.result)
            if with_interval
            else _of_value(evaluation.result)
        )
    return Measurement(
        checkpoint=checkpoint,
        facts=facts,
        scores=evaluation.scores,
        result=evaluation.result,
        estimate=score_estimate,
    )


def versions_of_scorer(scorer: str) -> dict[Fact, str | None]:
    """Separate lm-eval's version from other scorers', for comparisons with runs of lm-eval alone."""
    parts = scorer.split()
    harness = next((p.partition("=")[2] for p in parts if p.startswith("lm_eval=")), None)
    rest = " ".join(p for p in parts if not p.startswith("lm_eval="))
    return {Fact.HARNESS_VERSION: harness, Fact.SCORER: rest or None}


def all_stages(
    measurement: Measurement,
    benchmark: Benchmark,
    samples: Sequence[Sample] = (),
    *,
    with_interval: bool = True,
) -> tuple[Measurement, ...]:
    """The measurement at each scoring stage that its scores contain; its own stage comes first."""
    stages = [measurement]
    metrics = {s.metric for s in measurement.scores}
    for stage in benchmark.stages:
        if stage.metric is None or stage.metric not in metrics or stage.metric in benchmark.metrics:
            continue
        other = benchmark.model_copy(update={"metrics": (stage.metric,)})
        result = benchmark_score(benchmark, measurement.scores, stage=stage.name)
        score_estimate = (
            _estimate(samples, measurement.scores, other, result) if with_interval else _of_value(result)
        )
        facts = measurement.facts.plus({Fact.STAGE: stage.name})
        stages.append(
            measurement.model_copy(update={"facts": facts, "result": result, "estimate": score_estimate})
        )
    return tuple(stages)


def shared_definition(base: Side | None, candidate: Side | None) -> Benchmark | None:
    """The definition under which two imported results of a task that no suite contains can be compared.

    It is the base's, with a metric that both have; of one side alone it is that side's. None if neither has one or they share
    no metric.
    """
    sides = [side for side in (base, candidate) if side is not None and side.benchmark is not None]
    if len(sides) < 2:
        return sides[0].benchmark if sides else None
    metrics = [_metrics_of(side) for side in sides]
    chosen = [side.benchmark.metrics for side in sides if side.benchmark is not None]
    first = sides[0].benchmark
    for names in (*chosen, *((name,) for name in metrics[0])):
        if first is not None and all(set(names) <= set(available) for available in metrics):
            return with_column(first, names, [s for side in sides for s in side.measurement.scores])
    return None


def under_definition(side: Side, definition: Benchmark) -> Side:
    """An imported side scored under another definition of its task: another metric or aggregation."""
    if side.benchmark is None or side.benchmark == definition or side.unfit:
        return side
    has_metric = all(m in s.metrics for s in side.samples for m in definition.metrics)
    of_column = definition.formula is None or definition.metrics == side.benchmark.metrics
    samples = side.samples if has_metric and of_column else ()  # sums are those of the side's own column
    result = unlisted_score(definition, side.measurement.scores)
    score_estimate = _estimate(samples, side.measurement.scores, definition, result)
    measurement = side.measurement.model_copy(update={"result": result, "estimate": score_estimate})
    return replace(side, measurement=measurement, samples=samples, benchmark=definition)


def with_metric(side: Side, metric: str) -> Side:
    """An imported side scored by another of its metrics; a side of a suite, or without the metric, is unchanged."""
    if side.benchmark is None or metric not in _metrics_of(side):
        return side
    return under_definition(side, with_column(side.benchmark, (metric,), side.measurement.scores))


def _metrics_of(side: Side) -> tuple[str, ...]:
    """The metrics that every subset of a side has, in the order of its scores."""
    by_subset: dict[str, list[str]] = {}
    for score in side.measurement.scores:
        by_subset.setdefault(score.subset, []).append(score.metric)
    first, *others = by_subset.values() or [[]]
    return tuple(m for m in first if all(m in other for other in others))


def suite_measurement(suite: Suite, sides: Sequence[Side]) -> SuiteMeasurement | None:
    """The mean over a suite's benchmarks; None if no benchmark was measured."""
    parts = {s.measurement.result.benchmark: s for s in sides}
    measured = [b for b in suite.benchmarks if b.name in parts]
    missing = [
        b.title for b in suite.benchmarks if b.name not in parts or parts[b.name].measurement.result.partial
    ]
    if not measured:
        return None
    docs = [
        documents([samples], b)
        for b in measured
        if (samples := parts[b.name].samples) and has_sums(samples, b)
    ]
    all_paired = len(docs) == len(measured)
    mean = average_estimate(docs) if all_paired else _mean([parts[b.name].measurement for b in measured])
    return SuiteMeasurement(
        estimate=mean, missing=tuple(missing), parts=tuple(parts[b.name].measurement for b in measured)
    )


def sides_of_import(run: ImportedRun, suites: Iterable[Suite]) -> tuple[Side, ...]:
    """The sides of an imported run, with their samples where available."""
    all_suites = list(suites)
    return tuple(
        Side(
            result.measurement,
            samples_of(run, result, all_suites),
            notes=result.problems,
            unfit=result.unfit,
            benchmark=result.definition,
        )
        for result in run.benchmarks
        if result.primary
    )


def _estimate(
    samples: Sequence[Sample], scores: Sequence[Score], benchmark: Benchmark, result: BenchmarkScore
) -> Estimate:
    """The score with its interval; an unknown one if neither samples nor standard errors give it."""
    if samples and has_sums(samples, benchmark):
        return estimate(documents([samples], benchmark))
    if missing_error(scores, benchmark) is not None:
        return _of_value(result)
    return estimate_from_scores(scores, benchmark)


def _of_value(result: BenchmarkScore) -> Estimate:
    """The estimate for a score without a known interval."""
    return unknown_estimate(result.normalized, result.n)


def _mean(parts: Sequence[Measurement]) -> Estimate:
    """The mean of independent estimates."""
    value = sum(p.result.normalized for p in parts) / len(parts)
    stderr = sum(p.estimate.stderr_points**2 for p in parts) ** 0.5 / len(parts)
    low, high = max(0.0, value - 1.96 * stderr), min(100.0, value + 1.96 * stderr)
    return Estimate(
        value=value,
        interval=Interval(low=low, high=high),
        stderr_points=stderr,
        n=sum(p.estimate.n for p in parts),
    )
