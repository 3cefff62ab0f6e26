"""What lm-eval's result files say of a task's definition: its metrics in order, their direction, the kind of output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.suite import OutputKind

_MOST = 100
_OUTPUTS = {
    "multiple_choice": OutputKind.MULTIPLE_CHOICE,
    "loglikelihood": OutputKind.MULTIPLE_CHOICE,
    "generate_until": OutputKind.GENERATION,
    "greedy_until": OutputKind.GENERATION,
}


def task_fields(config: Mapping[str, Any], directions: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a TaskResult that come from its `configs` entry and its `higher_is_better` entry."""
    entries = _entries(config.get("metric_list"), "metric")
    metrics = [name for name, _ in entries]
    filters = [name for name, _ in _entries(config.get("filter_list"), "name")] or ["none"]
    lower = {k for k, higher in directions.items() if higher is False}
    lower |= {name for name, entry in entries if entry.get("higher_is_better") is False}
    return {
        # A filter's name is the second half of a metric's name, as `parse._task` writes it.
        "preferred": tuple(m if f == "none" else f"{m},{f}" for m in metrics for f in filters),
        "lower_is_better": tuple(sorted(lower)),
        "output": _OUTPUTS.get(str(config.get("output_type"))),
        "dataset": _dataset(config),
    }


def text_list(value: Any) -> tuple[str, ...]:
    """The texts of a list; empty for anything else."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _entries(value: Any, key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and entry of a list of mappings that have the key."""
    items = value[:_MOST] if isinstance(value, list) else []
    return [(item[key], item) for item in items if isinstance(item, dict) and isinstance(item.get(key), str)]


def _dataset(config: Mapping[str, Any]) -> str | None:
    path, name = config.get("dataset_path"), config.get("dataset_name")
    if not isinstance(path, str) or not path:
        return None
    return f"{path} ({name})" if isinstance(name, str) and name else path
