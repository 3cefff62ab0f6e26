"""Layer slots: N loaded layers hold the weights, N + E attention modules hold the KV caches.

Slot k of a path runs a shallow copy of its source layer whose attention writes to KV holder k, counted over the visits that have
attention. A change of path creates a few Python objects and neither copies nor moves weights. If the layers' attentions differ
(windows, sinks), the slot's attention is a copy of the source layer's under the holder's name and with its KV cache.
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
from evals.partial_layers import damp, require_visit, restrict, shallow, some_states
from evals.vllm.structure import ModelStack, find_model_stack, kind_of


class LayerSlots:
    """The slots of one worker's model (of its shard, under tensor parallelism)."""

    def __init__(self, model: nn.Module, config: VllmConfig, device: torch.device, extra: int) -> None:
        """Raises UnsupportedArchitecture, with the reason, if layer paths cannot run on the model's structure."""
        self._stack = find_model_stack(model, config.model_config.hf_text_config)
        self._layers = self._stack.layers
        self._holders: list[Any] = self._stack.holders()
        self._modules_by_name: dict[str, Any] = config.compilation_config.static_forward_context
        self.path: VisitPath = tuple(range(len(self._layers)))
        self.generation = 0
        """Number of changes of path; a graph captured at another value belongs to another path."""
        self._in_order = True
        """Whether slot k of the path uses KV cache k."""
        self._nonfinite = torch.zeros((), dtype=torch.bool, device=device)
        self._stack.norm.register_forward_hook(self._check_finite)
        dtype = config.model_config.dtype
        # A layer of transformers takes a batch of sequences.
        shape = (4,) if type(self._layers[0]).__module__.startswith("vllm.") else (1, 4)
        self._states = some_states((*shape, config.model_config.get_hidden_size()), dtype, device)
        with set_current_vllm_config(config), set_default_torch_dtype(dtype), device:
            for index in range(len(self._layers), len(self._layers) + extra):
                self._holders.append(_extra_holder(self._holders[0], index, config, dtype))
        self._alike = self._stack.alike and len({kind_of(holder) for holder in self._holders}) == 1

    @property
    def alike(self) -> bool:
        """Whether one slot's attention can stand for any other's, so that a path only exchanges KV caches."""
        return self._alike

    @property
    def stack(self) -> ModelStack:
        """The model's stack of layers."""
        return self._stack

    @property
    def holders(self) -> list[Any]:
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
        source = self._layers[layer_of(visit)]
        if has_attention(visit):
            holder = self._holders[slot]
            if not self._alike:
                attention = shallow(source.get_submodule(self._stack.attention))
                attention.layer_name, attention.kv_cache = holder.layer_name, holder.kv_cache
                self._modules_by_name[holder.layer_name] = holder = attention
            twin = with_part(source, self._stack.attention, holder)
        else:
            twin = shallow(source)
        layer: nn.Module = damp(restrict(twin, part_of(visit)), factor_of(visit))
        return layer

    def require_parts(self, path: VisitPath) -> None:
        """Raise UnsupportedArchitecture if a layer cannot run the part or be damped as a visit says."""
        for visit in path:
            require_visit(self._layers[layer_of(visit)], part_of(visit), factor_of(visit), self._states)

    def set(self, layers: VisitPath | None) -> None:
        """Run these visits of layers in this order; None restores the loaded model."""
        path = tuple(range(len(self._layers))) if layers is None else layers
        if path == self.path and self._in_order:
            return
        for holder in self._holders:
            self._modules_by_name[holder.layer_name] = holder
        if layers is None:
            self._stack.show(self._layers, tuple(range(len(self._layers))))
            self.path, self._in_order = path, True
            self.generation += 1
        else:
            self.place(layers, cache_slots(running(layers)))

    def place(self, layers: VisitPath, slots: tuple[int, ...]) -> None:
        """Run these visits in this order, each that runs with the KV cache of its entry in `slots`."""
        visits = running(layers)
        twins = [self.layer_at(visit, slot) for visit, slot in zip(visits, slots, strict=True)]
        self._stack.show(nn.ModuleList(twins), tuple(layer_of(visit) for visit in visits))
        self.path, self._in_order = layers, slots == cache_slots(visits)
        self.generation += 1


def with_part(module: nn.Module, path: str, part: nn.Module) -> nn.Module:
    """A copy of a module that shares everything but the part at a path such as `self_attn.attn`."""
    name, _, rest = path.partition(".")
    twin: nn.Module = shallow(module)
    twin._modules[name] = with_part(module.get_submodule(name), rest, part) if rest else part
    return twin


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
