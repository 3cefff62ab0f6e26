"""Finds in a loaded vLLM model what layer paths need: the stack of layers, and what holds each layer's state.

A family is supported by its structure: one stack, and in each of its layers one attention with a KV cache of its own, all of one
shape. Layers may differ in everything else (window, sinks, rotary factors, experts), because a layer's copy keeps its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

from evals.errors import UnsupportedArchitecture
from evals.transformers.layer_stack import module_lists, per_layer_settings


@dataclass(frozen=True)
class ModelStack:
    """The stack of layers of one worker's model."""

    owner: Any
    """The module that runs the layers one after another."""
    name: str
    """Attribute of `owner` that holds the layers."""
    layers: nn.ModuleList
    """The loaded layers."""
    attention: str
    """Path from a layer to its attention, for example `self_attn.attn`; the same in all layers."""
    alike: bool
    """Whether the attentions differ in nothing but their KV cache, so that one can stand for another."""
    config: Any
    """Configuration of the language model; some models read its number of layers while they run."""
    per_layer: Mapping[str, list[Any]] = field(default_factory=dict)
    """Settings with one entry per layer that the owner reads while it runs (models of transformers), by name."""

    @property
    def counted(self) -> bool:
        """Whether the owner runs layers by the range `start_layer` to `end_layer`, as vLLM's own models do."""
        return hasattr(self.owner, "start_layer") and hasattr(self.owner, "end_layer")

    @property
    def norm(self) -> nn.Module:
        """The module after the last layer, or the owner of the stack if it has no module `norm`."""
        norm = getattr(self.owner, "norm", None)
        return norm if isinstance(norm, nn.Module) else self.owner

    def holders(self) -> list[Any]:
        """The layers' attentions, in order."""
        return [layer.get_submodule(self.attention) for layer in self.layers]

    def show(self, layers: nn.ModuleList, sources: tuple[int, ...]) -> None:
        """Make the owner run these layers, which are copies of the loaded layers `sources`."""
        setattr(self.owner, self.name, layers)
        self.config.num_hidden_layers = len(layers)
        if self.counted:
            self.owner.start_layer, self.owner.end_layer = 0, len(layers)
            return
        self.owner.config.num_hidden_layers = len(layers)
        for name, values in self.per_layer.items():
            setattr(self.owner.config, name, [values[source] for source in sources])


def find_model_stack(model: nn.Module, config: Any) -> ModelStack:
    """The stack of decoder layers; UnsupportedArchitecture, with the reason, if paths cannot run on its structure.

    `config` is the configuration of the language model.
    """
    count = config.num_hidden_layers
    lists = [(owner, name) for owner, name in module_lists(model, count) if _states(getattr(owner, name))]
    if len(lists) != 1:
        names = ", ".join(f"{type(owner).__name__}.{name}" for owner, name in lists) or "none"
        raise UnsupportedArchitecture(f"it has no single list of {count} layers with attention ({names})")
    owner, name = lists[0]
    layers: nn.ModuleList = getattr(owner, name)
    _require_own_states(model, layers)
    paths = {path for layer in layers for path, _ in _states(layer)}
    if len(paths) != 1:
        raise UnsupportedArchitecture(
            f"its layers keep their attention in different places ({', '.join(sorted(paths))})"
        )
    if not hasattr(owner, "start_layer") and not hasattr(getattr(owner, "config", None), "num_hidden_layers"):
        raise UnsupportedArchitecture("the number of layers that it runs cannot be set")
    holders = [holder for layer in layers for _, holder in _states(layer)]
    _require_one_shape(holders)
    per_layer = {} if hasattr(owner, "start_layer") else per_layer_settings(owner.config, count)
    alike = len({kind_of(holder) for holder in holders}) == 1
    return ModelStack(owner, name, layers, next(iter(paths)), alike, config, per_layer)


def _states(module: nn.Module) -> list[tuple[str, Any]]:
    """Parts that hold state from token to token, with their path."""
    return [(path, part) for path, part in module.named_modules() if isinstance(part, AttentionLayerBase)]


def _require_own_states(model: nn.Module, layers: nn.ModuleList) -> None:
    """Raise UnsupportedArchitecture unless each layer has one attention with its own KV cache, and nothing else has state."""
    for number, layer in enumerate(layers):
        states = [state for _, state in _states(layer)]
        other = next((state for state in states if not isinstance(state, Attention)), None)
        if other is not None:
            raise UnsupportedArchitecture(
                f"layer {number} keeps its state in a {type(other).__name__}, not in a KV cache"
            )
        if len(states) != 1:
            raise UnsupportedArchitecture(f"layer {number} has {len(states)} attentions")
        if states[0].kv_sharing_target_layer_name is not None:
            raise UnsupportedArchitecture(f"layer {number} shares keys and values with another layer")
    if len(_states(model)) != len(layers):
        raise UnsupportedArchitecture("it has attention outside its stack of layers")


def _require_one_shape(holders: list[Any]) -> None:
    """Raise UnsupportedArchitecture unless any layer can use any other's KV cache."""
    shapes = {
        (
            h.num_heads,
            h.num_kv_heads,
            h.head_size,
            h.head_size_v,
            h.kv_cache_dtype,
            h.attn_type,
            h.attn_backend,
        )
        for h in holders
    }
    if len(shapes) > 1:
        raise UnsupportedArchitecture("its layers keep keys and values of different shapes")


def kind_of(holder: Any) -> tuple[Any, ...]:
    """What distinguishes the computation of one attention from another's; tensors (sinks, slopes) are each their own kind."""
    parts = (
        (name, id(value) if isinstance(value, torch.Tensor) else _plain_value(value))
        for name, value in sorted(vars(holder.impl).items())
    )
    return (holder.sliding_window, *parts)


def _plain_value(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else type(value)
