"""Names of searched parameters for people: the model that a number belongs to instead of its index in the recipe."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator.search.merges.space import Location, Space
from orchestrator.search.request import short_name


def parameter_labels(document: Any, space: Space) -> dict[str, str]:
    """Label of each parameter of a recipe by its name, for example `arithmetic: weight` for `models.0.parameters.weight`.

    A parameter that the file names keeps its name, and so do those whose labels are not distinct and the ends of a searched block.
    """
    labels: dict[str, str] = {}
    for place in space.places:
        label = _label(document, place.location)
        for number, name in enumerate(place.parameters):
            index = f"[{number}]" if place.is_gradient else ""
            is_given = name.removesuffix(index) != ".".join(map(str, place.location))
            labels.setdefault(name, name if is_given else f"{label}{index}")
    for parameter in space.parameters:
        labels.setdefault(parameter.name, parameter.name)
    counts = Counter(labels.values())
    return {name: label if counts[label] == 1 else name for name, label in labels.items()}


def _label(document: Any, location: Location) -> str:
    """The models and filters on the way to a place, then the keys that are neither an index nor a container of such."""
    owners: list[str] = []
    keys: list[str] = []
    node = document
    for key in location:
        node = node[key]
        if isinstance(key, str):
            keys.append(key)
            continue
        if not keys:
            owners.append(f"stage {key + 1}")
        elif isinstance(node, dict) and "model" in node:
            owners.append(_model_name(node["model"]))
            keys.clear()
        elif isinstance(node, dict) and "filter" in node:
            owners.append(str(node["filter"]))
        elif keys[-1] == "slices":
            owners.append(f"slice {key + 1}")
        else:
            keys[-1] += f"[{key}]"
    shown = [key for key in keys if key not in ("slices", "models", "sources", "parameters", "value")]
    return ": ".join([*owners, " ".join(shown)])


def _model_name(model: Any) -> str:
    """The short name of a model as a recipe gives it: a text, or a mapping with its path."""
    if isinstance(model, dict):
        inner = model.get("model", model)
        model = inner.get("path", inner) if isinstance(inner, dict) else inner
    return short_name(str(model))
