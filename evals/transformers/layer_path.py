"""Live layer paths in a transformers model: shallow copies of the layers that share the weights, fully reversible."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from evals.live_paths import check_layer_path, require_live_family

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class LivePaths:
    """Switches a loaded model between layer paths.

    Slot k of a path runs a shallow copy of its source layer, whose attention has `layer_idx` k, the layer's index in the KV
    cache. Per-layer lists of the config (`layer_types`) follow the path.
    """

    def __init__(self, model: PreTrainedModel, checkpoint: Path) -> None:
        self._model = model
        self._checkpoint = checkpoint
        self._stack = model.get_decoder()
        self._layers: nn.ModuleList = self._stack.layers
        self._layer_types: list[str] | None = getattr(model.config, "layer_types", None)

    def set(self, layers: tuple[int, ...] | None) -> None:
        """Run these source layers in this order; None restores the loaded model."""
        from torch import nn

        config = self._model.config
        if layers is None:
            self._stack.layers = self._layers
            config.num_hidden_layers = len(self._layers)
            if self._layer_types is not None:
                config.layer_types = self._layer_types
            return
        check_layer_path(layers, require_live_family(self._checkpoint), None, self._checkpoint)
        self._stack.layers = nn.ModuleList(
            _with_cache_slot(self._layers[source], slot) for slot, source in enumerate(layers)
        )
        config.num_hidden_layers = len(layers)
        if self._layer_types is not None:
            config.layer_types = [self._layer_types[source] for source in layers]


def _shallow(module: nn.Module) -> nn.Module:
    """A copy that shares all tensors and children, but whose children can be replaced."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _with_cache_slot(layer: nn.Module, slot: int) -> nn.Module:
    twin = _shallow(layer)
    attention = _shallow(layer.self_attn)
    attention.layer_idx = slot
    twin.self_attn = attention
    return twin
