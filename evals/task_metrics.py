"""Which metrics a task file asks for, by the names that lm-eval gives them in its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    "ter",
    "brier_score",
}
_LOWER = {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "brier_score"}
_MEANS = ("mean", "nanmean", "bits_per_byte")
# Preferred as the main metric, in this order: what leaderboards show, and what is a mean over documents.
_PREFERRED = ("acc_norm", "acc", "exact_match", "bits_per_byte")
NO_FILTER = "none"


def metric_labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of a task as `metric` or `metric,filter` that are means over its documents, the task's first filter first."""
    entries = fields.get("metric_list") or [
        {"metric": name} for name in _DEFAULTS[str(fields.get("output_type", "generate_until"))]
    ]
    names = [_name(entry) for entry in entries if _is_mean(entry)]
    if not names:
        listed = ", ".join(_name(entry) for entry in entries)
        raise SuiteError(
            f"The metrics of '{fields.get('task')}' ({listed}) are computed over all documents at once, so that no interval can be "
            "given for them; add a metric with `aggregation: mean` to the task, for example acc."
        )
    filters = [str(entry["name"]) for entry in fields.get("filter_list") or ()] or [NO_FILTER]
    return tuple(name if kind == NO_FILTER else f"{name},{kind}" for kind in filters for name in names)


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
