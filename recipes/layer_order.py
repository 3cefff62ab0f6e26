"""Whether the layers of a checkpoint can be reordered in a built one, from its config and the names of its tensors."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from recipes.checkpoint import layer_tensor_name
from recipes.errors import BuildError, CheckpointError
from recipes.layer_config import layers_differ, relayered_config

_LAYER_NAMES = re.compile(r"(layers|h|blocks)\\?\.\d")
"""Layers that a quantization config names one by one."""


def order_obstacle(
    config: Mapping[str, Any], tensor_names: Sequence[str], layers: Sequence[int], where: str
) -> str | None:
    """Why no checkpoint with these layers of this one can be built; None if it can, as far as names tell.

    `tensor_names` is empty if no header was read.
    """
    try:
        if tensor_names:
            require_one_stack(stacks_of(tensor_names), where)
        relayered_config([(config, layer) for layer in layers], config, where)
        by_layer = _kinds_by_layer(tuple(tensor_names))
        require_movable(config, {by_layer.get(layer, frozenset()) for layer in layers}, where)
    except (BuildError, CheckpointError) as error:
        return str(error)
    return None


def require_one_stack(stacks: Sequence[str], where: str) -> None:
    """Raise BuildError unless there is one stack of layers."""
    if len(stacks) != 1:
        raise BuildError(
            f"{where} has {len(stacks)} stacks of layers ({', '.join(stacks) or 'none'}), and a layer path names layers of one: "
            "use a text-only checkpoint."
        )


def require_movable(config: Mapping[str, Any], kinds: set[frozenset[Any]], where: str) -> None:
    """Raise BuildError if the config does not say which layer is of which kind; `kinds` are the tensors of each kind of layer."""
    if _LAYER_NAMES.search(json.dumps(config.get("quantization_config"))):
        raise BuildError(f"{where}: its quantization_config names single layers, so layers cannot move.")
    if len(kinds) > 1 and not layers_differ(config, where):
        raise BuildError(
            f"{where}: its layers have different tensors and its config.json has no list that says which "
            "layer is of which kind, so layers cannot move."
        )


def stacks_of(tensor_names: Sequence[str]) -> tuple[str, ...]:
    """Name prefixes of the numbered stacks of layers."""
    names = (layer_tensor_name(name) for name in tensor_names)
    return tuple(dict.fromkeys(name.stack for name in names if name))


@functools.lru_cache(maxsize=8)  # plans ask it of thousands of paths of one checkpoint
def _kinds_by_layer(tensor_names: tuple[str, ...]) -> dict[int, frozenset[str]]:
    """Names of each layer's tensors."""
    kinds: dict[int, set[str]] = {}
    for part in map(layer_tensor_name, tensor_names):
        if part:
            kinds.setdefault(part.layer, set()).add(part.rest)
    return {layer: frozenset(names) for layer, names in kinds.items()}
