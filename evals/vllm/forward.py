"""Forward passes outside vLLM's scheduler: its layers, kernels and KV cache, with sequences and blocks of our own.

Used while the scheduler is idle and its prefix cache is empty, so that every block is free. Runs in the worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.forward_context import set_forward_context
from vllm.v1.attention.backend import CommonAttentionMetadata

from evals.vllm.batch import Batch, DecodeStep, Ints, Step, StepResult
from evals.vllm.schedule import PathNode, Stride, Visit, cached_sweeps, path_trie
from evals.vllm.slots import LayerSlots, shallow

ROWS_PER_HEAD = 128
"""Rows of the vocabulary that are in float32 at once."""


@dataclass
class Hidden:
    """Hidden states of the new tokens, and the residual that vLLM's layers pass beside them. Layers change both in place."""

    states: torch.Tensor
    residual: torch.Tensor

    def copy(self) -> Hidden:
        """The same values, to be changed apart."""
        return Hidden(self.states.clone(), self.residual.clone())


@dataclass
class Writes:
    """Where the keys and values of the running layer go."""

    rows: torch.Tensor | None = None
    slots: torch.Tensor | None = None


class SpreadAttention(nn.Module):
    """A layer's attention that writes keys and values to any number of places before it reads them."""

    def __init__(self, holder: nn.Module, writes: Writes) -> None:
        super().__init__()
        self._holder: Any = holder
        self._writes = writes

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention over the KV cache, which holds this call's keys and values already."""
        holder, rows = self._holder, self._writes.rows
        keys = key.view(-1, holder.num_kv_heads, holder.head_size)
        values = value.view(-1, holder.num_kv_heads, holder.head_size)
        if rows is not None:
            keys, values = keys.index_select(0, rows), values.index_select(0, rows)
        holder.impl.do_kv_cache_update(holder, keys, values, holder.kv_cache, self._writes.slots)
        return holder(query, key, value)  # finds no slots in the forward context and writes nothing more


class Forward:
    """The model of one worker, layer by layer. A layer's repetitions share its KV holder and differ in their blocks."""

    def __init__(self, runner: Any, slots: LayerSlots, config: VllmConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._model: Any = runner.get_model()
        self._builder = runner.attn_groups[0][0].get_metadata_builder()
        self.block_size = config.cache_config.block_size
        self._writes = Writes()
        self._holders = slots.holders[: len(slots.sources)]
        self._layers = [self._spreading(layer) for layer in slots.sources]

    def _spreading(self, layer: nn.Module) -> Any:
        twin = shallow(layer)
        twin.self_attn = shallow(twin.self_attn)
        twin.self_attn.attn = SpreadAttention(layer.self_attn.attn, self._writes)
        return twin

    @torch.inference_mode()
    def run(self, step: Step, paths: Sequence[tuple[int, ...]], stride: Stride) -> list[StepResult]:
        """The step through each of the paths; what paths have in common from their first layer on is run once."""
        results: dict[int, StepResult] = {}
        for path, hidden in self.prefill(step.batch, paths, stride):
            results[path] = self.look_up(hidden, step)
        return [results[path] for path in range(len(paths))]

    def prefill(
        self, batch: Batch, paths: Sequence[tuple[int, ...]], stride: Stride
    ) -> Iterator[tuple[int, Hidden]]:
        """The last hidden states of each path, which leave its keys and values in its blocks."""
        for path in range(stride.paths):
            for repeat in range(stride.repeats):
                self._copy_blocks(batch.copies, path, repeat, stride)
        states = self._model.model.embed_input_ids(self.tensor(batch.tokens))
        pass_ = _Pass(self, batch, stride)
        yield from self._walk(path_trie(paths), Hidden(states, torch.zeros_like(states)), pass_)

    def _walk(self, node: PathNode, hidden: Hidden, pass_: _Pass) -> Iterator[tuple[int, Hidden]]:
        for layer, repeat in zip(node.layers, node.repeats, strict=True):
            # Alone, a path uses its own blocks; where all share a stride of one, there are no others.
            writers = node.paths if pass_.stride.paths > 1 else (0,)
            pass_.layer(layer, hidden, writers, repeat if pass_.stride.repeats > 1 else 0)
        for path in node.ends:
            yield path, hidden
        for number, child in enumerate(node.children):
            last = number == len(node.children) - 1
            yield from self._walk(child, hidden if last else hidden.copy(), pass_)

    @torch.inference_mode()
    def decode(self, step: DecodeStep, paths: tuple[tuple[int, ...], ...], stride: Stride) -> list[int]:
        """The next token of each row; layers run once for all rows that are due for them."""
        states = self._model.model.embed_input_ids(self.tensor(step.tokens))
        hidden = Hidden(states, torch.zeros_like(states))
        rows = _Rows(self, step, stride)
        for visit in cached_sweeps(paths):
            rows.visit(visit, hidden)
        states, _ = self._model.model.norm(hidden.states, hidden.residual)
        best: list[int] = []
        for begin in range(0, len(states), ROWS_PER_HEAD):
            logits = self._model.compute_logits(states[begin : begin + ROWS_PER_HEAD])
            best += [] if logits is None else logits.argmax(dim=-1).tolist()
        return best

    def look_up(self, hidden: Hidden, step: Step) -> StepResult:
        """Log-probabilities (float32) of the wanted tokens and the likeliest token of each wanted row."""
        rows = self.tensor(step.rows)
        states, _ = self._model.model.norm(hidden.states[rows], hidden.residual[rows])
        logprobs: list[float] = []
        best: list[int] = []
        for begin in range(0, len(step.rows), ROWS_PER_HEAD):
            logits = self._model.compute_logits(states[begin : begin + ROWS_PER_HEAD])
            if logits is None:  # only the first rank of a tensor-parallel engine is given logits
                continue
            logits = logits.float()
            mine = step.lookups[(step.lookups[:, 0] >= begin) & (step.lookups[:, 0] < begin + ROWS_PER_HEAD)]
            where, tokens = self.tensor(mine[:, 0] - begin), self.tensor(mine[:, 1])
            found = logits[where, tokens] - torch.logsumexp(logits, dim=-1)[where]
            logprobs += found.tolist()
            best += logits.argmax(dim=-1).tolist()
        return StepResult(logprobs, best)

    def one_layer(
        self, layer: int, hidden: Hidden, positions: torch.Tensor, metadata: Any, writes: Writes
    ) -> None:
        """Run one loaded layer; changes `hidden`."""
        name = self._holders[layer].layer_name
        self._writes.rows, self._writes.slots = writes.rows, writes.slots
        with set_forward_context({name: metadata}, self._config, num_tokens=len(positions), slot_mapping={}):
            hidden.states, hidden.residual = self._layers[layer](positions, hidden.states, hidden.residual)

    def metadata(
        self, starts: torch.Tensor, lengths: torch.Tensor, tables: torch.Tensor, longest: tuple[int, int]
    ) -> Any:
        """What the attention kernels need to know about the sequences; `longest` is (new tokens, length)."""
        starts = starts.to(torch.int32)
        common = CommonAttentionMetadata(
            query_start_loc=starts.to(self._device),
            query_start_loc_cpu=starts,
            seq_lens=lengths.to(self._device, torch.int32),
            num_reqs=len(lengths),
            num_actual_tokens=int(starts[-1]),
            max_query_len=longest[0],
            max_seq_len=longest[1],
            block_table_tensor=tables.to(self._device, torch.int32),
            slot_mapping=torch.empty(0, dtype=torch.int64, device=self._device),
        )
        return self._builder.build(common_prefix_len=0, common_attn_metadata=common)

    def slots_of(self, blocks: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Places in the KV cache."""
        return blocks * self.block_size + offsets

    def _copy_blocks(self, copies: Ints, path: int, repeat: int, stride: Stride) -> None:
        if len(copies):
            source, target = (stride.block(self.tensor(copies[:, side]), path, repeat) for side in (0, 1))
            for holder in self._holders:
                holder.kv_cache[target] = holder.kv_cache[source]

    def tensor(self, values: Ints) -> torch.Tensor:
        """The values on the worker's device."""
        return torch.from_numpy(values).to(self._device, non_blocking=True)


class _Pass:
    """One batch on its way through layers: positions, metadata and write places, made once."""

    def __init__(self, forward: Forward, batch: Batch, stride: Stride) -> None:
        self.stride = stride
        self._forward = forward
        self._batch = batch
        self._positions = forward.tensor(batch.positions)
        self._metadata: dict[tuple[int, int], Any] = {}
        self._writes: dict[tuple[tuple[int, ...], int], Writes] = {}

    def layer(self, layer: int, hidden: Hidden, paths: tuple[int, ...], repeat: int) -> None:
        """Run one layer for these paths; all of them get the keys and values, the first one's are read."""
        self._forward.one_layer(
            layer, hidden, self._positions, self._read(paths[0], repeat), self._write(paths, repeat)
        )

    def _read(self, path: int, repeat: int) -> Any:
        if (path, repeat) not in self._metadata:
            batch = self._batch
            tables = self.stride.block(torch.from_numpy(batch.tables), path, repeat)
            longest = int((batch.starts[1:] - batch.starts[:-1]).max()), int(batch.lengths.max())
            self._metadata[path, repeat] = self._forward.metadata(
                torch.from_numpy(batch.starts), torch.from_numpy(batch.lengths), tables, longest
            )
        return self._metadata[path, repeat]

    def _write(self, paths: tuple[int, ...], repeat: int) -> Writes:
        if (paths, repeat) not in self._writes:
            batch, forward = self._batch, self._forward
            blocks, offsets = forward.tensor(batch.write_blocks), forward.tensor(batch.write_offsets)
            places = [forward.slots_of(self.stride.block(blocks, path, repeat), offsets) for path in paths]
            plain = len(paths) == 1 and len(batch.write_rows) == len(batch.tokens)
            rows = None if plain else forward.tensor(batch.write_rows).repeat(len(paths))
            self._writes[paths, repeat] = Writes(rows, torch.cat(places))
        return self._writes[paths, repeat]


class _Rows:
    """The rows of a decode step: who is due, and where their keys and values are."""

    def __init__(self, forward: Forward, step: DecodeStep, stride: Stride) -> None:
        self._forward = forward
        self._step = step
        self._stride = stride
        self._due: dict[
            tuple[tuple[int, int], ...], tuple[torch.Tensor | None, torch.Tensor, Any, Writes]
        ] = {}

    def visit(self, visit: Visit, hidden: Hidden) -> None:
        """Run a layer for the rows that are due; changes `hidden`."""
        if visit.due not in self._due:
            self._due[visit.due] = self._prepare(visit.due)
        rows, positions, metadata, writes = self._due[visit.due]
        if rows is None:
            self._forward.one_layer(visit.layer, hidden, positions, metadata, writes)
        elif len(rows):
            part = Hidden(hidden.states[rows], hidden.residual[rows])
            self._forward.one_layer(visit.layer, part, positions, metadata, writes)
            hidden.states[rows], hidden.residual[rows] = part.states, part.residual

    def _prepare(
        self, due: tuple[tuple[int, int], ...]
    ) -> tuple[torch.Tensor | None, torch.Tensor, Any, Writes]:
        step, forward = self._step, self._forward
        repeat_of = np.full(self._stride.paths, -1, dtype=np.int64)
        for path, repeat in due:
            repeat_of[path] = repeat
        repeats = repeat_of[step.paths]
        rows = np.flatnonzero(repeats >= 0)
        paths, lengths, repeats = step.paths[rows], step.lengths[rows], repeats[rows]
        tables = (step.tables[rows] * self._stride.paths + paths[:, None]) * self._stride.repeats + repeats[
            :, None
        ]
        last = lengths - 1
        size = forward.block_size
        slots = tables[np.arange(len(rows)), last // size] * size + last % size
        metadata = None
        if len(rows):
            metadata = forward.metadata(
                torch.arange(len(rows) + 1),
                torch.from_numpy(lengths),
                torch.from_numpy(tables),
                (1, int(lengths.max())),
            )
        everyone = len(rows) == len(step.paths)
        return (
            None if everyone else forward.tensor(rows),
            forward.tensor(last),
            metadata,
            Writes(None, forward.tensor(slots)),
        )
