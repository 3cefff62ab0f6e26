"""Converts lm-eval's results to typed scores and samples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from lm_eval.api.task import Task

from evals.alarms import find_alarms
from evals.benchmark import Formula
from evals.clusters import with_clusters
from evals.harness.corpus import PERCENT, value_of_document, vectors_of
from evals.harness.repeats import repeat_metric, value_of
from evals.harness.written import Written
from evals.scores import Alarm, Sample, SampleItem, Score
from evals.suite import Benchmark, Extraction, Subset

NO_FILTER = "none"
_OF_LOGPROBS: Mapping[str, Callable[[float, float], float]] = {
    "bits_per_byte": lambda logprob, size: -logprob / size / math.log(2),
    "weighted_perplexity": lambda logprob, size: math.exp(-logprob / size),
    "weighted_mean": lambda logprob, size: logprob / size,
}
"""lm-eval's aggregations of (log-probability, words or bytes): the value of one document."""
_OF_ALL_DOCUMENTS = ("f1_score", "matthews_corrcoef", "bleu", "chrf", "ter", "brier_score")
"""lm-eval's aggregations that are defined over all documents only."""
NO_MATCH = "[invalid]"
"""Output of lm-eval's regex filter if nothing matches."""


def metric_label(metric: str, filter_name: str) -> str:
    """Name of a metric: lm-eval's, with the filter if there is one."""
    return metric if filter_name == NO_FILTER else f"{metric},{filter_name}"


def collect_samples(
    benchmark: Benchmark,
    task: Task,
    logged: Iterable[Mapping[str, Any]],
    written: Mapping[tuple[str, int], Written],
    results: Mapping[str, Any],
) -> tuple[Sample, ...]:
    """One sample per document, from lm-eval's log of one task, which has an entry per document and filter.

    `results` are lm-eval's values of the task, by metric and filter.
    """
    by_doc: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in logged:
        by_doc[entry["doc_id"]].append(entry)
    vectors = _vectors(benchmark, by_doc, results)
    samples = [
        _sample(benchmark, task, entries, written, vectors.get(doc_id))
        for doc_id, entries in sorted(by_doc.items())
    ]
    return with_clusters(samples, {doc_id: entries[0].get("doc") for doc_id, entries in by_doc.items()})


def _vectors(
    benchmark: Benchmark, by_doc: Mapping[int, list[Mapping[str, Any]]], results: Mapping[str, Any]
) -> dict[int, tuple[float, ...]]:
    """The vector of each document for a metric over all of them; empty if its formula is unknown."""
    if benchmark.formula in (None, Formula.OTHER):
        return {}
    metric, _, kind = benchmark.metrics[0].partition(",")
    kind = kind or NO_FILTER
    items = [next(e[metric] for e in by_doc[doc_id] if e["filter"] == kind) for doc_id in sorted(by_doc)]
    result = float(results[f"{metric},{kind}"]) / (100.0 if metric in PERCENT else 1.0)
    vectors = vectors_of(benchmark.formula, metric, items, result)
    return {} if vectors is None else dict(zip(sorted(by_doc), vectors, strict=True))


def collect_scores(
    benchmark: Benchmark, subset: Subset, results: Mapping[str, Any], samples: tuple[Sample, ...]
) -> tuple[Score, ...]:
    """Every metric of one subset, from lm-eval's results of all tasks."""
    counts = results["n-samples"][subset.task]
    alarms = find_alarms(benchmark, samples)
    scores = []
    for key, value in results["results"][subset.task].items():
        metric, _, filter_name = key.partition(",")
        if not filter_name or metric.endswith("_stderr"):
            continue
        stderr = results["results"][subset.task].get(f"{metric}_stderr,{filter_name}")
        divisor = 100.0 if metric in PERCENT else 1.0
        scores.append(
            Score(
                benchmark=benchmark.name,
                subset=subset.task,
                metric=metric_label(metric, filter_name),
                value=float(value) / divisor,
                stderr=float(stderr) / divisor if isinstance(stderr, int | float) else None,
                n=counts["effective"],
                n_full=counts["original"],
                lower_bound=subset.lower_bound,
                task_version=str(results["versions"][subset.task]),
                alarms=alarms,
            )
        )
    return (*scores, *_repeat_scores(benchmark, subset, results, samples, alarms))


def _repeat_scores(
    benchmark: Benchmark,
    subset: Subset,
    results: Mapping[str, Any],
    samples: Sequence[Sample],
    alarms: tuple[Alarm, ...],
) -> Iterator[Score]:
    """Metrics over several answers to one question: means over questions, with the error of that mean."""
    for metric in filter(None, map(repeat_metric, benchmark.metrics)):
        values = [sample.metrics[metric.label] for sample in samples]
        yield Score(
            benchmark=benchmark.name,
            subset=subset.task,
            metric=metric.label,
            value=fmean(values),
            stderr=stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
            n=len(values),
            n_full=results["n-samples"][subset.task]["original"],
            lower_bound=subset.lower_bound,
            task_version=str(results["versions"][subset.task]),
            alarms=alarms,
        )


def _sample(
    benchmark: Benchmark,
    task: Task,
    entries: list[Mapping[str, Any]],
    written: Mapping[tuple[str, int], Written],
    vector: tuple[float, ...] | None,
) -> Sample:
    first = entries[0]
    name = task.config.task
    metrics, weights = _metrics(task, entries)
    if benchmark.formula is not None:
        metrics[benchmark.metrics[0]] = (
            value_of_document(benchmark.formula, vector) if vector is not None else 0.0
        )
        weights.pop(benchmark.metrics[0], None)
    for repeated in filter(None, map(repeat_metric, benchmark.metrics)):
        metrics[repeated.label] = value_of(repeated, task, first)
    choices, logprobs = _choices(task, first)
    response = _response(benchmark, first, choices, logprobs)
    length = written.get((name, first["doc_id"]), Written(n_tokens=0, truncated=False))
    return Sample(
        benchmark=benchmark.name,
        subset=name,
        doc_id=first["doc_id"],
        doc_hash=first["doc_hash"][:16],
        prompt_hash=first["prompt_hash"][:16],
        target=_target(task, first, choices),
        choices=choices,
        logprobs=logprobs,
        response=response,
        extracted=_extracted(benchmark, entries, response),
        n_tokens=length.n_tokens,
        truncated=length.truncated,
        metrics=metrics,
        correct=fmean(metrics[m] for m in benchmark.metrics),
        weights=weights,
        items=() if vector is not None else _items(entries),
        sums=vector or (),
    )


def _items(entries: list[Mapping[str, Any]]) -> tuple[SampleItem, ...]:
    """The values of the metrics that score a document in several items, such as IFEval's instructions.

    An item's name is its text in the only field of the document that lists as many texts, else its number.
    """
    items: list[SampleItem] = []
    for entry in entries:
        for metric in entry["metrics"]:
            values = entry[metric]
            if isinstance(values, list | tuple):
                names = _item_names(entry.get("doc"), len(values))
                label = metric_label(metric, entry["filter"])
                items += [
                    SampleItem(name=n, metric=label, value=float(v))
                    for n, v in zip(names, values, strict=True)
                ]
    return tuple(items)


def _item_names(doc: object, count: int) -> list[str]:
    lists = [
        list(value)
        for value in (doc.values() if isinstance(doc, Mapping) else ())
        if isinstance(value, list | tuple) and len(value) == count and all(isinstance(v, str) for v in value)
    ]
    return lists[0] if len(lists) == 1 else [f"item {number}" for number in range(1, count + 1)]


def _metrics(task: Task, entries: list[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of one document, and their weights; those that only exist over all documents (F1, BLEU) are left out."""
    aggregations = {name: getattr(f, "__name__", "") for name, f in task.aggregation().items()}
    metrics: dict[str, float] = {}
    weights: dict[str, float] = {}
    for entry in entries:
        for metric in entry["metrics"]:
            label, value = metric_label(metric, entry["filter"]), entry[metric]
            aggregation = aggregations.get(metric, "mean")
            if aggregation in _OF_LOGPROBS:
                logprob, weight = value
                metrics[label] = _OF_LOGPROBS[aggregation](logprob, weight)
                weights[label] = float(weight)
            elif aggregation in _OF_ALL_DOCUMENTS or not isinstance(value, list | tuple | int | float):
                continue
            elif isinstance(value, list | tuple):  # several items per document, such as IFEval's instructions
                metrics[label] = fmean(map(float, value)) if value else 0.0
                weights[label] = float(len(value))
            else:
                metrics[label] = float(value)
    return metrics, weights


def _choices(task: Task, entry: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    if task.OUTPUT_TYPE == "loglikelihood":
        return (str(entry["arguments"][0][1]),), (float(entry["resps"][0][0][0]),)
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return (), (float(entry["resps"][0][0]),)
    if task.OUTPUT_TYPE != "multiple_choice":
        return (), ()
    choices = tuple(str(choice) for choice in task.doc_to_choice(entry["doc"]))
    return choices, tuple(float(resps[0][0]) for resps in entry["resps"][: len(choices)])


def _response(
    benchmark: Benchmark, entry: Mapping[str, Any], choices: tuple[str, ...], logprobs: tuple[float, ...]
) -> str:
    """The chosen continuation, or the generated text; empty for the log-probability of a document."""
    if choices:
        return choices[_pick(benchmark, choices, logprobs)]
    return "" if logprobs else str(entry["resps"][0][0])


def _pick(benchmark: Benchmark, choices: tuple[str, ...], logprobs: tuple[float, ...]) -> int:
    """Index of the choice that lm-eval's metric picks; the first of equal ones."""
    values = np.array(logprobs)
    if benchmark.extraction is Extraction.CHOICE_PER_CHARACTER:
        values = values / np.array([float(len(choice)) for choice in choices])
    return int(np.argmax(values))


def _target(task: Task, entry: Mapping[str, Any], choices: tuple[str, ...]) -> str:
    # If each choice completes the prompt, lm-eval's text is the index of the correct choice.
    target = task.doc_to_text(entry["doc"]) if getattr(task, "multiple_input", 0) else entry["target"]
    if isinstance(target, int) and 0 <= target < len(choices):
        return choices[target]
    return str(target)


def _extracted(benchmark: Benchmark, entries: list[Mapping[str, Any]], response: str) -> str | None:
    match benchmark.extraction:
        case Extraction.CHOICE | Extraction.CHOICE_PER_CHARACTER:
            return response
        case Extraction.FILTER:
            filters = {m.partition(",")[2] or NO_FILTER for m in benchmark.metrics}  # of pass@k too
            answer = next((str(e["filtered_resps"][0]) for e in entries if e["filter"] in filters), NO_MATCH)
            return None if answer == NO_MATCH else answer
        case Extraction.MATH:
            return _math_answer(response)
        case Extraction.NONE:
            return None


def _math_answer(response: str) -> str | None:
    from math_verify import parse  # type: ignore[import-untyped]  # it has no types

    answers = parse(response)
    return str(answers[-1]) if answers else None
