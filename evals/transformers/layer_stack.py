"""Finds the stack of decoder layers in a loaded transformers model by its structure, not by the names of its modules.

`model.layers`, `transformer.h`, `model.decoder.layers`, `gpt_neox.layers` and others are one thing: the only list of modules
that has as many entries as the configuration has layers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_NOT_PER_LAYER = re.compile(r"architectures|.*_token_ids?|.*_tokens|keys_to_ignore.*")
"""Lists of a configuration that are as long as the stack by chance."""
_INDEX_LISTS = ("mlp_only_layers", "attn_layer_indices", "full_attn_idxs", "moe_layers", "global_attn_layers")
"""Lists of layer numbers."""
MODEL_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)
"""What the code of a model raises where its layers cannot be constructed or run in another order."""


@dataclass(frozen=True)
class LayerStack:
    """The module that runs the decoder layers one after another, and what it knows of single layers."""

    owner: nn.Module
    name: str
    """Attribute of `owner` that holds the layers, for example `layers` or `h`."""
    layers: nn.ModuleList
    """The loaded layers."""
    config: Any
    """Configuration of the language model, which the owner reads while it runs."""
    per_layer: dict[str, list[Any]]
    """Settings of the configuration with one entry per layer, by name."""
    indices: dict[str, list[int]]
    """Settings of the configuration that list layer numbers, by name."""

    def show(self, layers: nn.ModuleList, sources: Sequence[int]) -> None:
        """Make the model run these layers, which are copies of the loaded layers `sources`, with a configuration that fits them."""
        setattr(self.owner, self.name, layers)
        self.config.num_hidden_layers = len(layers)
        # Numbers of layers first: where lists follow from them, lists that are set stay.
        for name, numbers in self.indices.items():
            setattr(self.config, name, [slot for slot, source in enumerate(sources) if source in numbers])
        for name, values in self.per_layer.items():
            setattr(self.config, name, [values[source] for source in sources])


def find_stack(model: PreTrainedModel) -> LayerStack | str:
    """The stack of decoder layers, or the reason why there is none."""
    config = model.config.get_text_config(decoder=True)
    count = getattr(config, "num_hidden_layers", None)
    if not isinstance(count, int):
        return "its configuration does not say how many layers it has"
    lists = module_lists(model, count)
    decoder = model.get_decoder()
    inside = [(owner, name) for owner, name in lists if any(owner is module for module in decoder.modules())]
    candidates = inside or lists
    if len(candidates) != 1:
        names = ", ".join(f"{type(owner).__name__}.{name}" for owner, name in candidates) or "none"
        return f"it has no single list of {count} decoder layers ({names})"
    owner, name = candidates[0]
    per_layer = per_layer_settings(config, count)
    indices = {
        key: list(value)
        for key in _INDEX_LISTS
        if key not in per_layer and isinstance(value := getattr(config, key, None), list | tuple)
    }
    return LayerStack(owner, name, getattr(owner, name), config, per_layer, indices)


def module_lists(model: nn.Module, count: int) -> list[tuple[nn.Module, str]]:
    """Owner and name of every list of `count` modules that is not inside another such list."""
    from torch import nn

    lists: list[tuple[nn.Module, str]] = []
    inside: set[int] = set()
    for module in model.modules():
        if id(module) in inside:
            continue
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                lists.append((module, name))
                inside.update(id(part) for part in child.modules())
    return lists


def per_layer_settings(config: Any, count: int) -> dict[str, list[Any]]:
    """Settings of a transformers configuration with one entry per layer (`layer_types`), by name."""
    return {
        name: list(value)
        for name, value in vars(config).items()
        if isinstance(value, list | tuple) and len(value) == count and not _NOT_PER_LAYER.fullmatch(name)
    }
