"""What searched numbers are called in tables and pictures."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.search.merges.labels import parameter_labels
from orchestrator.search.merges.space import Space

RANGE = {"search": [0, 1]}


@pytest.mark.parametrize(
    ("document", "labels"),
    [
        (
            {"models": [{"model": "org/sums@main", "parameters": {"weight": RANGE, "n": RANGE}}, {"model": "y", "parameters": {"weight": RANGE}}]},
            ["sums: weight", "sums: n", "y: weight"],
        ),
        (
            {"models": [{"model": "a/x", "parameters": {"weight": {"search": [0, 1], "points": 2}}}]},
            ["x: weight[0]", "x: weight[1]"],
        ),
        (
            {"merge_method": {"choices": ["ties", "dare_ties"]}, "parameters": {"t": RANGE, "lambda": RANGE}},
            ["merge_method", "t", "lambda"],
        ),
        (
            {"parameters": {"t": [{"filter": "mlp", "value": RANGE}, {"value": RANGE}]}},
            ["mlp: t", "t[1]"],
        ),
        (
            {"slices": [{"sources": [{"model": "x", "layer_range": [0, RANGE], "parameters": {"scale": RANGE}}]}]},
            ["slice 1: x: layer_range[1]", "slice 1: x: scale"],
        ),
        (
            [{"models": [{"model": "x", "parameters": {"weight": RANGE}}]}, {"parameters": {"t": RANGE}}],
            ["stage 1: x: weight", "stage 2: t"],
        ),
        ({"models": [{"model": {"model": {"path": "org/x"}}, "parameters": {"weight": RANGE}}]}, ["x: weight"]),
        ({"parameters": {"t": {"search": [0, 1], "name": "share"}}}, ["share"]),
        (
            {"models": [{"model": "a/x", "parameters": {"weight": RANGE}}, {"model": "b/x", "parameters": {"weight": RANGE}}]},
            ["models.0.parameters.weight", "models.1.parameters.weight"],
        ),
    ],
    ids=["models", "gradient", "choice and global", "filters", "slices", "stages", "mapping", "named", "not distinct"],
)  # fmt: skip
def test_a_number_is_called_by_its_model(document: Any, labels: list[str]) -> None:
    assert list(parameter_labels(document, Space.of(document)).values()) == labels
