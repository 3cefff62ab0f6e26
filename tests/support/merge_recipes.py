"""Recipes of every merge method over three sources called org/base, org/one and org/two."""

from __future__ import annotations

import json
from pathlib import Path

from recipes.recipe import METHODS, BasePolicy

SOURCES = ("org/base", "org/one", "org/two")


STACKED = """
merge_method: passthrough
slices:
  - sources: [{model: org/one, layer_range: [0, 2]}]
  - sources: [{model: org/two, layer_range: [1, 3]}]
"""
"""Layers of two sources in one stack of four."""


GRADIENT = """
merge_method: slerp
base_model: org/one
slices:
  - sources: [{model: org/one, layer_range: [0, 2]}, {model: org/two, layer_range: [2, 4]}]
    parameters: {t: 0.25}
  - sources: [{model: org/two, layer_range: [0, 2]}, {model: org/one, layer_range: [1, 3]}]
    base_model: org/two
parameters: {t: [0.1, 0.9]}
dtype: float32
out_dtype: float16
"""
"""Two dtypes, gradients, and slices with bases of their own."""

STAGES = """
name: drawn
merge_method: dare_ties
base_model: org/base
models: [{model: org/one, parameters: {weight: 0.6, density: 0.5}}, {model: org/two, parameters: {weight: 0.4, density: 0.5}}]
dtype: float32
out_dtype: bfloat16
---
name: stack
merge_method: passthrough
slices: [{sources: [{model: drawn, layer_range: [0, 3]}]}, {sources: [{model: org/two, layer_range: [1, 4]}]}]
---
name: shallow
merge_method: passthrough
slices: [{sources: [{model: stack, layer_range: [0, 2]}]}, {sources: [{model: stack, layer_range: [4, 6]}]}]
---
merge_method: della
base_model: org/base
models: [{model: shallow, parameters: {weight: 0.5}}, {model: org/one, parameters: {weight: 0.3}}]
"""
"""Four stages, two of them random and two that copy layers."""


def method_recipe(name: str) -> str:
    """A recipe with three sources, or two where the method takes no more, and gradients and filters where it can."""
    method = METHODS[name]
    models = ["org/one", "org/two"] if method.max_inputs != 2 else ["org/one"]
    own = {"weight": [0.9, 0.3], "density": 0.6}
    reads = {rule.name for rule in method.parameters}
    parameters = {key: value for key, value in own.items() if key in reads}
    given = {"t": [{"filter": "mlp", "value": [0, 1]}, {"value": 0.4}]} if name == "slerp" else {"t": 0.002}
    document = {
        "merge_method": name,
        "models": [{"model": model} | ({"parameters": parameters} if parameters else {}) for model in models],
        "dtype": "bfloat16",
        "parameters": {key: value for key, value in given.items() if key in reads},
    }
    if method.base is not BasePolicy.IGNORED:
        document["base_model"] = "org/base"
    return json.dumps(document)


def sources_in(folder: Path) -> dict[str, Path]:
    """The sources' directories under a folder."""
    return {name: folder / name for name in SOURCES}
