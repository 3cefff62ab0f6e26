"""What is compared: a benchmark's own result with its samples, from our evaluations or from imported runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evals.claims.facts import Fact, facts_of, stage_of
from evals.claims.records import Measurement, SuiteMeasurement
from evals.normalize import benchmark_score
from evals.results_files import ImportedRun, samples_of
from evals.scores import BenchmarkScore, Evaluation, Sample
from evals.stats import Estimate, Interval, average_estimate, documents, estimate, estimate_from_scores
from evals.suite import Benchmark, Suite
from orchestrator.store.records import Protocol


@dataclass(frozen=True)
class Side:
    """One benchmark of one checkpoint; without samples only its scores can be compared.

    `definition` is the digest of the benchmark's definition that an imported run was read by, `notes` what is doubtful
    about it, `unfit` why it must not be compared at all.
    """

    measurement: Measurement
    samples: tuple[Sample, ...] = ()
    definition: str | None = None
    notes: tuple[str, ...] = ()
    unfit: str | None = None

    def outdated(self, benchmark: Benchmark) -> bool:
        """Whether it was made by another definition of its benchmark than today's."""
        made_by = self.definition or self.measurement.facts.get(Fact.DEFINITION)
        return made_by is not None and made_by != benchmark.digest


def measurement_of(
    evaluation: Evaluation,
    benchmark: Benchmark | None,
    checkpoint: str,
    samples: Sequence[Sample] = (),
    *,
    protocol: Protocol | None = None,
    quantization: str | None = None,
) -> Measurement:
    """One of our own evaluations; `quantization` says what the checkpoint's weights come from, where that is known.

    `benchmark` is today's definition, None where there is none any more. An evaluation by another one keeps the
    normalized score that was stored with it; nothing is computed anew, so that nothing is known of its interval.
    """
    facts = facts_of(evaluation).plus(
        {
            Fact.QUANTIZATION: quantization,
            Fact.DATA: protocol.dataset_digest if protocol is not None else None,
            **(versions_of_scorer(protocol.scorer) if protocol is not None else {}),
        }
    )
    if benchmark is None or benchmark.digest != evaluation.benchmark_digest:
        found = _of_value(evaluation.result)
    else:
        facts = facts.plus(
            {Fact.SHOTS: str(benchmark.shots), Fact.STAGE: stage_of(benchmark, benchmark.metrics[0])}
        )
        found = (
            estimate(documents([samples], benchmark))
            if samples
            else estimate_from_scores(evaluation.scores, benchmark)
        )
    return Measurement(
        checkpoint=checkpoint, facts=facts, scores=evaluation.scores, result=evaluation.result, estimate=found
    )


def versions_of_scorer(scorer: str) -> dict[Fact, str | None]:
    """lm-eval's version apart from what else scores, so that a run of lm-eval alone can be held against it."""
    parts = scorer.split()
    harness = next((p.partition("=")[2] for p in parts if p.startswith("lm_eval=")), None)
    rest = " ".join(p for p in parts if not p.startswith("lm_eval="))
    return {Fact.HARNESS_VERSION: harness, Fact.SCORER: rest or None}


def all_stages(
    measurement: Measurement, benchmark: Benchmark, samples: Sequence[Sample] = ()
) -> tuple[Measurement, ...]:
    """The measurement once for each scoring stage of its benchmark that our scores allow; its own comes first."""
    made = [measurement]
    there = {s.metric for s in measurement.scores}
    for stage in benchmark.stages:
        if stage.metric is None or stage.metric not in there or stage.metric in benchmark.metrics:
            continue
        other = benchmark.model_copy(update={"metrics": (stage.metric,)})
        found = (
            estimate(documents([samples], other))
            if samples
            else estimate_from_scores(measurement.scores, other)
        )
        result = benchmark_score(benchmark, measurement.scores, stage=stage.name)
        facts = measurement.facts.plus({Fact.STAGE: stage.name})
        made.append(measurement.model_copy(update={"facts": facts, "result": result, "estimate": found}))
    return tuple(made)


def suite_measurement(suite: Suite, sides: Sequence[Side]) -> SuiteMeasurement | None:
    """The mean over a suite's benchmarks; None where fewer than one was measured."""
    parts = {s.measurement.result.benchmark: s for s in sides}
    there = [b for b in suite.benchmarks if b.name in parts]
    missing = [
        b.title for b in suite.benchmarks if b.name not in parts or parts[b.name].measurement.result.partial
    ]
    if not there:
        return None
    docs = [documents([parts[b.name].samples], b) for b in there if parts[b.name].samples]
    all_paired = len(docs) == len(there)
    whole = average_estimate(docs) if all_paired else _mean([parts[b.name].measurement for b in there])
    return SuiteMeasurement(
        estimate=whole, missing=tuple(missing), parts=tuple(parts[b.name].measurement for b in there)
    )


def sides_of_import(run: ImportedRun, suites: Iterable[Suite]) -> tuple[Side, ...]:
    """The benchmarks of an imported run, with the samples that it has."""
    known = list(suites)
    return tuple(
        Side(found.measurement, samples_of(run, found, known), notes=found.problems, unfit=found.unfit)
        for found in run.benchmarks
        if found.primary
    )


def _of_value(result: BenchmarkScore) -> Estimate:
    """A score of which only the value is known."""
    whole = Interval(low=0.0, high=100.0)
    return Estimate(value=result.normalized, interval=whole, stderr_points=100.0, n=max(1, result.n))


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
