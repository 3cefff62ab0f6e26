"""Live layer paths in a transformers model: shallow copies of the layers that share the weights, fully reversible."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evals.layer_visits import AnyVisit, VisitPath, cache_slots, factor_of, layer_of, part_of, running
from evals.live_paths import check_layer_path, require_live_family

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class LivePaths:
    """Switches a loaded model between layer paths.

    Slot k of a path runs a shallow copy of its source layer, whose attention has `layer_idx` k, the layer's index in the KV
    cache, counted over the visits that have attention. Per-layer lists of the config (`layer_types`) follow the path.
    """

    def __init__(self, model: PreTrainedModel, checkpoint: Path) -> None:
        self._model = model
        self._checkpoint = checkpoint
        self._stack = model.get_decoder()
        self._layers: nn.ModuleList = self._stack.layers
        self._layer_types: list[str] | None = getattr(model.config, "layer_types", None)

    def set(self, layers: VisitPath | None) -> None:
        """Run these visits in this order; None restores the loaded model."""
        from torch import nn

        config = self._model.config
        if layers is None:
            self._stack.layers = self._layers
            config.num_hidden_layers = len(self._layers)
            if self._layer_types is not None:
                config.layer_types = self._layer_types
            return
        check_layer_path(layers, require_live_family(self._checkpoint), None, self._checkpoint)
        visits = running(layers)
        self._stack.layers = nn.ModuleList(
            _in_part(_with_cache_slot(self._layers[layer_of(visit)], slot), visit)
            for visit, slot in zip(visits, cache_slots(visits), strict=True)
        )
        config.num_hidden_layers = len(visits)
        if self._layer_types is not None:
            config.layer_types = [self._layer_types[layer_of(visit)] for visit in visits]


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


def _in_part(twin: nn.Module, visit: AnyVisit) -> nn.Module:
    """Make a shallow copy of a layer run the part of the visit, with its factor."""
    from evals.partial_layers import damp, restrict

    twin = restrict(twin, part_of(visit), attention_returns_pair=True)
    return cast("nn.Module", damp(twin, factor_of(visit)))
