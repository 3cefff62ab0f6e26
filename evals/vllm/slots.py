"""Layer slots: N loaded layers hold the weights, N + E attention modules hold the KV caches.

Slot k of a path runs a shallow copy of its source layer whose attention writes to KV holder k, counted over the visits that have
attention. A change of path creates a few Python objects and neither copies nor moves weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.attention import Attention
from vllm.utils.torch_utils import set_default_torch_dtype

from evals.layer_visits import (
    AnyVisit,
    VisitPath,
    cache_slots,
    factor_of,
    has_attention,
    layer_of,
    part_of,
    running,
)
from evals.partial_layers import damp, restrict, shallow


class LayerSlots:
    """The slots of one worker's model (of its shard, under tensor parallelism)."""

    def __init__(self, model: nn.Module, config: VllmConfig, device: torch.device, extra: int) -> None:
        self._model = model
        self._stack: Any = model.model
        self._layers: nn.ModuleList = self._stack.layers
        self._holders: list[nn.Module] = [layer.self_attn.attn for layer in self._layers]
        self.path: VisitPath = tuple(range(len(self._layers)))
        self.generation = 0
        """Number of changes of path; a graph captured at another value belongs to another path."""
        self._nonfinite = torch.zeros((), dtype=torch.bool, device=device)
        self._stack.norm.register_forward_hook(self._check_finite)
        dtype = config.model_config.dtype
        with set_current_vllm_config(config), set_default_torch_dtype(dtype), device:
            for index in range(len(self._layers), len(self._layers) + extra):
                self._holders.append(_extra_holder(self._holders[0], index, config, dtype))

    @property
    def holders(self) -> list[nn.Module]:
        """The attention modules that hold the KV caches, by slot."""
        return self._holders

    @property
    def sources(self) -> nn.ModuleList:
        """The loaded layers, which hold the weights."""
        return self._layers

    @torch.inference_mode()
    def mend_cache(self) -> bool:
        """Zero the KV cache if a pass since the last call was not finite; returns whether one was.

        Kernels read a block to its end and multiply values outside the sequence by zero, but zero times NaN is NaN, so that the
        next owner of the blocks would get NaN. The flag stays on the device until this call, where the host waits for it.
        """
        nonfinite = bool(self._nonfinite)
        if nonfinite:
            self._nonfinite.zero_()
            for holder in self._holders:
                holder.kv_cache.zero_()
        return nonfinite

    def _check_finite(self, norm: nn.Module, arguments: Any, output: Any) -> None:
        """Record whether the last hidden states of a pass are finite; non-finite values in the KV cache propagate to them."""
        states = output[0] if isinstance(output, tuple) else output
        self._nonfinite |= ~torch.isfinite(states).all()

    def layer_at(self, visit: AnyVisit, slot: int) -> nn.Module:
        """A layer that runs the visit with the source layer's weights and the slot's KV cache."""
        twin = shallow(self._layers[layer_of(visit)])
        if has_attention(visit):
            attention = shallow(twin.self_attn)
            attention.attn = self._holders[slot]
            twin.self_attn = attention
        twin = restrict(twin, part_of(visit), attention_returns_pair=False)
        layer: nn.Module = damp(twin, factor_of(visit))
        return layer

    def set(self, layers: VisitPath | None) -> None:
        """Run these visits of layers in this order; None restores the loaded model."""
        path = tuple(range(len(self._layers))) if layers is None else layers
        if path == self.path:
            return
        self.path = path
        self.generation += 1
        if layers is None:
            self._stack.layers = self._layers
        else:
            visits = running(layers)
            self._stack.layers = nn.ModuleList(
                self.layer_at(visit, slot) for visit, slot in zip(visits, cache_slots(visits), strict=True)
            )
        self._stack.start_layer, self._stack.end_layer = 0, len(self._stack.layers)


def _extra_holder(like: Any, index: int, config: VllmConfig, dtype: torch.dtype) -> nn.Module:
    """An attention module without weights, registered under a new layer name, so that vLLM allocates a KV cache for it."""
    holder = Attention(
        like.num_heads,
        like.head_size,
        like.impl.scale,
        num_kv_heads=like.num_kv_heads,
        cache_config=config.cache_config,
        quant_config=None,
        per_layer_sliding_window=like.sliding_window,
        prefix=like.layer_name.replace(".0.", f".{index}.", 1),
        attn_type=like.attn_type,
    )
    holder.process_weights_after_loading(dtype)
    return holder
