"""Forward passes outside vLLM's scheduler: its layers, kernels and KV cache, our own sequences and blocks.

Used while the scheduler is idle and its prefix cache is empty, so that every block is free. Runs in the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.forward_context import set_forward_context
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.kv_cache_interface import FullAttentionSpec

from evals.vllm.slots import LayerSlots
from evals.vllm.steps import Batch, Ints, Step, StepResult

ROWS_PER_HEAD = 128
"""Rows of the vocabulary that are in float32 at once."""

Hidden = tuple[torch.Tensor, torch.Tensor | None]
"""Hidden states and the residual that vLLM's layers pass beside them."""


class Forward:
    """The model of one worker, layer by layer."""

    def __init__(self, runner: Any, slots: LayerSlots, config: VllmConfig, device: torch.device) -> None:
        self._runner = runner
        self._slots = slots
        self._config = config
        self._device = device
        self._model: Any = runner.get_model()
        self._modules: dict[tuple[int, int], nn.Module] = {}
        self._names = [holder.layer_name for holder in slots.holders]

    @staticmethod
    def is_possible(runner: Any) -> bool:
        """Whether the KV cache is laid out as one plain group that a single block table addresses."""
        groups = runner.kv_cache_config.kv_cache_groups
        return len(groups) == 1 and type(groups[0].kv_cache_spec) is FullAttentionSpec

    def run(self, steps: Sequence[Step], layers: Sequence[int]) -> list[StepResult]:
        """The steps in order, each through these source layers."""
        with torch.inference_mode():
            return [self._run(step, layers) for step in steps]

    def _run(self, step: Step, layers: Sequence[int]) -> StepResult:
        self.copy_blocks(step.batch.copies)
        hidden = self.embed(step.batch.tokens)
        hidden = self.through(hidden, [(source, slot) for slot, source in enumerate(layers)], step.batch)
        return self.look_up(hidden, step)

    def embed(self, tokens: Ints) -> Hidden:
        """What the first layer is given."""
        return self._model.model.embed_input_ids(self._tensor(tokens)), None

    def through(self, hidden: Hidden, layers: Sequence[tuple[int, int]], batch: Batch) -> Hidden:
        """The hidden states after these layers, given as (source layer, slot)."""
        metadata, slots = self._metadata(batch)
        positions = self._tensor(batch.positions)
        states, residual = hidden
        with set_forward_context(
            dict.fromkeys(self._names, metadata),
            self._config,
            num_tokens=len(batch.tokens),
            slot_mapping=dict.fromkeys(self._names, slots),
        ):
            for source, slot in layers:
                states, residual = self._module(source, slot)(positions, states, residual)
        return states, residual

    def look_up(self, hidden: Hidden, step: Step) -> StepResult:
        """Log-probabilities (float32) of the wanted tokens and the likeliest token of each wanted row."""
        logits_of, norm = self._model.compute_logits, self._model.model.norm
        states, residual = hidden
        rows = self._tensor(step.rows)
        states, _ = norm(states[rows], None if residual is None else residual[rows])
        logprobs: list[float] = []
        best: list[int] = []
        for begin in range(0, len(step.rows), ROWS_PER_HEAD):
            logits = logits_of(states[begin : begin + ROWS_PER_HEAD])
            if logits is None:  # only the first rank of a tensor-parallel engine is given logits
                continue
            logits = logits.float()
            mine = step.lookups[(step.lookups[:, 0] >= begin) & (step.lookups[:, 0] < begin + ROWS_PER_HEAD)]
            where, tokens = self._tensor(mine[:, 0] - begin), self._tensor(mine[:, 1])
            found = logits[where, tokens] - torch.logsumexp(logits, dim=-1)[where]
            logprobs += found.tolist()
            best += logits.argmax(dim=-1).tolist()
        return StepResult(logprobs, best)

    def copy_blocks(self, copies: Ints) -> None:
        """Copy whole KV blocks in every slot."""
        if len(copies):
            source, target = self._tensor(copies[:, 0]), self._tensor(copies[:, 1])
            for holder in self._slots.holders:
                holder.kv_cache[target] = holder.kv_cache[source]

    def clear_cache(self) -> None:
        """Zero the KV cache: a sequence that went to infinity leaves values that spoil whoever shares a block."""
        for holder in self._slots.holders:
            holder.kv_cache.zero_()

    def _module(self, source: int, slot: int) -> nn.Module:
        if (source, slot) not in self._modules:
            self._modules[source, slot] = self._slots.layer_at(source, slot)
        return self._modules[source, slot]

    def _tensor(self, values: Ints) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)

    def _metadata(self, batch: Batch) -> tuple[Any, torch.Tensor]:
        """What the attention kernels need to know about the sequences."""
        starts = torch.from_numpy(batch.starts).to(torch.int32)
        sizes = batch.starts[1:] - batch.starts[:-1]
        slots = self._tensor(batch.slots)
        common = CommonAttentionMetadata(
            query_start_loc=starts.to(self._device),
            query_start_loc_cpu=starts,
            seq_lens=self._tensor(batch.lengths).to(torch.int32),
            num_reqs=len(batch.lengths),
            num_actual_tokens=len(batch.tokens),
            max_query_len=int(sizes.max()),
            max_seq_len=int(batch.lengths.max()),
            block_table_tensor=self._tensor(batch.tables).to(torch.int32),
            slot_mapping=slots,
        )
        builder = self._runner.attn_groups[0][0].get_metadata_builder()
        return builder.build(common_prefix_len=0, common_attn_metadata=common), slots
