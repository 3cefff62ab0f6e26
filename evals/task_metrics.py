"""Which metrics a task file asks for, by the names that lm-eval gives them in its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.benchmark import Formula
from evals.errors import SuiteError
from evals.task_yaml import FunctionReference

# lm-eval's metrics of tasks that name none (`DEFAULT_METRIC_REGISTRY`).
_DEFAULTS = {
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
}
# Metrics of lm-eval that are no mean over documents unless the task says so.
_NOT_MEANS = {
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "f1",
    "mcc",
    "bleu",
    "chrf",
    "chrf++",
    "ter",
    "brier_score",
}
# lm-eval's aggregations over all documents, of its own metrics and by name in a task's file.
_FORMULAS = {
    "f1": Formula.F1,
    "mcc": Formula.MCC,
    "matthews_corrcoef": Formula.MCC,
    "bleu": Formula.BLEU,
    "chrf": Formula.CHRF,
    "chrf++": Formula.CHRF,
    "ter": Formula.TER,
    "brier_score": Formula.BRIER,
    "perplexity": Formula.PERPLEXITY,
    "weighted_perplexity": Formula.PERPLEXITY,
    "word_perplexity": Formula.PERPLEXITY,
    "byte_perplexity": Formula.PERPLEXITY,
}
_LOWER = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "brier_score"}
_MEANS = ("mean", "nanmean", "bits_per_byte")
# Preferred as the main metric, in this order: what leaderboards show, and what is a mean over documents.
_PREFERRED = ("acc_norm", "acc", "exact_match", "bits_per_byte")
NO_FILTER = "none"


def metric_labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a task as `metric` or `metric,filter`: means over its documents, then those over all documents at once.

    Those of the task's first filter come first.
    """
    names = [_name(entry) for entry in sorted(_entries(fields), key=lambda entry: not _is_mean(entry))]
    if not names:
        raise SuiteError(f"The task '{fields.get('task')}' names no metric; add a `metric_list` to its file.")
    filters = [str(entry["name"]) for entry in fields.get("filter_list") or ()] or [NO_FILTER]
    return tuple(name if kind == NO_FILTER else f"{name},{kind}" for kind in filters for name in names)


def formula_of(label: str, fields: Mapping[str, Any]) -> Formula | None:
    """How a metric of a task follows from all documents; None for a mean over them."""
    metric = label.partition(",")[0]
    entry = next((entry for entry in _entries(fields) if _name(entry) == metric), None)
    if entry is None or _is_mean(entry):
        return None
    aggregation = entry.get("aggregation") if isinstance(entry, Mapping) else None
    name = None if isinstance(aggregation, FunctionReference) else str(aggregation or metric)
    return _FORMULAS.get(name or "", Formula.OTHER)


def main_metrics(labels: Sequence[str], group: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The metric of a benchmark's column: the group's, else the preferred one of the first filter."""
    if group is not None:
        metric = str(group.get("metric"))
        kinds = group.get("filter_list") or [NO_FILTER]
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            label = metric if kind == NO_FILTER else f"{metric},{kind}"
            if label in labels:
                return (label,)
        matching = [label for label in labels if label.partition(",")[0] == metric]
        if matching:
            return (matching[0],)
    first_filter = labels[0].partition(",")[2]
    for name in _PREFERRED:
        label = f"{name},{first_filter}" if first_filter else name
        if label in labels:
            return (label,)
    return (labels[0],)


def lower_is_better(label: str, fields: Mapping[str, Any]) -> bool:
    """Whether a smaller value of a metric is better, by the task's file or lm-eval's own metrics."""
    metric = label.partition(",")[0]
    for entry in fields.get("metric_list") or ():
        if _name(entry) == metric and isinstance(entry, Mapping) and "higher_is_better" in entry:
            return not entry["higher_is_better"]
    return metric in _LOWER


def _entries(fields: Mapping[str, Any]) -> list[Any]:
    """The task's metrics, as its file lists them or as lm-eval supplies them."""
    kind = str(fields.get("output_type", "generate_until"))
    return list(fields.get("metric_list") or ({"metric": name} for name in _DEFAULTS[kind]))


def _name(entry: Any) -> str:
    metric = entry.get("metric") if isinstance(entry, Mapping) else entry
    return metric.name.rpartition(".")[2] if isinstance(metric, FunctionReference) else str(metric)


def _is_mean(entry: Any) -> bool:
    aggregation = entry.get("aggregation") if isinstance(entry, Mapping) else None
    if isinstance(aggregation, FunctionReference):
        return False
    if aggregation is not None:
        return aggregation in _MEANS
    return _name(entry) not in _NOT_MEANS
