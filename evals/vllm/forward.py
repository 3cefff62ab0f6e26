"""Forward passes outside vLLM's scheduler: its layers, kernels and KV cache, with sequences and blocks of our own.

Used while the scheduler is idle and its prefix cache is empty, so that every block is free. Runs in the worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.forward_context import set_forward_context
from vllm.v1.attention.backend import CommonAttentionMetadata

from evals.vllm.batch import Batch, DecodeStep, Ints, Penalty, Step, StepResult
from evals.vllm.schedule import PathNode, Stride, Visit, cached_sweeps, path_trie
from evals.vllm.slots import LayerSlots, shallow


@dataclass
class Hidden:
    """Hidden states of the new tokens, and the residual that vLLM's layers pass beside them. Layers change both in place."""

    states: torch.Tensor
    residual: torch.Tensor

    def copy(self) -> Hidden:
        """The same values, to be changed apart."""
        return Hidden(self.states.clone(), self.residual.clone())


@dataclass(frozen=True)
class HeldRows:
    """Rows of a layer's pass whose keys and values are in one of its holders."""

    holder: int
    metadata: Any
    """What the attention kernel needs to know about the rows' sequences."""
    slots: torch.Tensor
    """Where keys and values are written ..."""
    written: torch.Tensor | None = None
    """... and of which of the rows; null is each of them once."""
    rows: torch.Tensor | None = None
    """Which rows of the pass these are; null is all."""


@dataclass
class RunningLayer:
    """What the running layer's attention reads and writes."""

    parts: tuple[HeldRows, ...] = ()


class SpreadAttention(nn.Module):
    """A layer's attention that writes keys and values to any number of places, in any of its holders, before it reads them."""

    def __init__(self, holders: Sequence[nn.Module], running: RunningLayer) -> None:
        super().__init__()
        self._holders: tuple[Any, ...] = tuple(holders)
        self._running = running

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention over the KV cache, which holds this call's keys and values already."""
        parts = self._running.parts
        if len(parts) == 1:
            return self._part(parts[0], query, key, value)
        found = torch.empty_like(query)
        for part in parts:
            found[part.rows] = self._part(part, query[part.rows], key[part.rows], value[part.rows])
        return found

    def _part(
        self, part: HeldRows, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        holder = self._holders[part.holder]
        keys = key.view(-1, holder.num_kv_heads, holder.head_size)
        values = value.view(-1, holder.num_kv_heads, holder.head_size)
        if part.written is not None:
            keys, values = keys.index_select(0, part.written), values.index_select(0, part.written)
        holder.impl.do_kv_cache_update(holder, keys, values, holder.kv_cache, part.slots)
        # It finds no slots in the forward context and writes nothing more.
        found: torch.Tensor = holder(query, key, value)
        return found


class Forward:
    """The model of one worker, layer by layer. A layer has the KV holder of its own slot, and those of as many further
    slots as there are for all layers alike; `Stride` tells which of a layer's repetitions uses which."""

    def __init__(
        self,
        runner: Any,
        slots: LayerSlots,
        config: VllmConfig,
        device: torch.device,
        head_rows: int,
        *,
        answers: bool,
    ) -> None:
        """`head_rows` is the number of rows whose logits are in memory at once, the same on every rank. Where `answers` is false,
        the rank takes part in the others' computation and returns nothing: the driver reads the first one's answers."""
        self._config = config
        self._device = device
        self._model: Any = runner.get_model()
        self._builder = runner.attn_groups[0][0].get_metadata_builder()
        self._head_rows = head_rows
        self._answers = answers
        # Blocks, KV heads, tokens of a block, keys beside values.
        self.n_blocks, _, self.block_size, _ = slots.holders[0].kv_cache.shape
        self._running = RunningLayer()
        n = len(slots.sources)
        self.n_holders = len(slots.holders) // n
        self._holders: list[list[Any]] = [slots.holders[layer : self.n_holders * n : n] for layer in range(n)]
        self._layers = [self._spreading(*pair) for pair in zip(slots.sources, self._holders, strict=True)]

    def _spreading(self, layer: nn.Module, holders: Sequence[nn.Module]) -> Any:
        twin = shallow(layer)
        twin.self_attn = shallow(twin.self_attn)
        twin.self_attn.attn = SpreadAttention(holders, self._running)
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
        best: list[torch.Tensor] = []
        for begin in range(0, len(states), self._head_rows):
            logits = self._logits(states[begin : begin + self._head_rows])
            if logits is not None:
                best.append(self._likeliest(logits, begin, step.penalty))
        return torch.cat(best).tolist() if best else []

    def _logits(self, states: torch.Tensor) -> torch.Tensor | None:
        """Logits of the rows, gathered from all ranks; null on a rank that does not answer."""
        logits: torch.Tensor | None = self._model.compute_logits(states)
        return logits if self._answers else None

    def _likeliest(self, logits: torch.Tensor, begin: int, penalty: Penalty | None) -> torch.Tensor:
        """The likeliest token of each row, after the penalty, on the device; the first of the logits is row `begin`."""
        if penalty is not None:
            seen = penalty.seen[(penalty.seen[:, 0] >= begin) & (penalty.seen[:, 0] < begin + len(logits))]
            rows, tokens = self.tensor(seen[:, 0] - begin), self.tensor(seen[:, 1])
            logits = logits.float().clone()
            values = logits[rows, tokens]
            logits[rows, tokens] = torch.where(values < 0, values * penalty.value, values / penalty.value)
        return logits.argmax(dim=-1)

    def look_up(self, hidden: Hidden, step: Step) -> StepResult:
        """Log-probabilities (float32) of the wanted tokens and the likeliest token of each wanted row."""
        rows = self.tensor(step.rows)
        states, _ = self._model.model.norm(hidden.states[rows], hidden.residual[rows])
        logprobs: list[torch.Tensor] = []
        best: list[torch.Tensor] = []
        for begin in range(0, len(step.rows), self._head_rows):
            end = begin + self._head_rows
            logits = self._logits(states[begin:end])
            if logits is None:
                continue
            logits = logits.float()
            here = step.lookups[(step.lookups[:, 0] >= begin) & (step.lookups[:, 0] < end)]
            where, tokens = self.tensor(here[:, 0] - begin), self.tensor(here[:, 1])
            logprobs.append(logits[where, tokens] - torch.logsumexp(logits, dim=-1)[where])
            best.append(self._likeliest(logits, begin, step.penalty))
        if not best:
            return StepResult([], [])
        # The one place where the host waits for a GPU.
        return StepResult(torch.cat(logprobs).tolist(), torch.cat(best).tolist())

    def one_layer(
        self, layer: int, hidden: Hidden, positions: torch.Tensor, parts: tuple[HeldRows, ...]
    ) -> None:
        """Run one loaded layer; changes `hidden`."""
        self._running.parts = parts
        known = {self._holders[layer][part.holder].layer_name: part.metadata for part in parts}
        with set_forward_context(known, self._config, num_tokens=len(positions), slot_mapping={}):
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
        # The "fast" form has no schedule made ahead: FlashAttention keeps that in one buffer, of as many entries as the scheduler
        # has sequences, while ours are more and several are alive at once.
        return self._builder.build(common_prefix_len=0, common_attn_metadata=common, fast_build=True)

    def slots_of(self, blocks: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Places in the KV cache."""
        return blocks * self.block_size + offsets

    def _copy_blocks(self, copies: Ints, path: int, repeat: int, stride: Stride) -> None:
        if len(copies):
            source, target = (stride.block(self.tensor(copies[:, side]), path, repeat) for side in (0, 1))
            for holders in self._holders:
                cache = holders[stride.holder(repeat)].kv_cache
                cache[target] = cache[source]

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
        self._parts: dict[tuple[tuple[int, ...], int], HeldRows] = {}

    def layer(self, layer: int, hidden: Hidden, paths: tuple[int, ...], repeat: int) -> None:
        """Run one layer for these paths; all of them get the keys and values, the first one's are read."""
        if (paths, repeat) not in self._parts:
            self._parts[paths, repeat] = self._part(paths, repeat)
        self._forward.one_layer(layer, hidden, self._positions, (self._parts[paths, repeat],))

    def _read(self, path: int, repeat: int) -> Any:
        if (path, repeat) not in self._metadata:
            batch = self._batch
            tables = self.stride.block(torch.from_numpy(batch.tables), path, repeat)
            longest = int((batch.starts[1:] - batch.starts[:-1]).max()), int(batch.lengths.max())
            self._metadata[path, repeat] = self._forward.metadata(
                torch.from_numpy(batch.starts), torch.from_numpy(batch.lengths), tables, longest
            )
        return self._metadata[path, repeat]

    def _part(self, paths: tuple[int, ...], repeat: int) -> HeldRows:
        batch, forward = self._batch, self._forward
        blocks, offsets = forward.tensor(batch.write_blocks), forward.tensor(batch.write_offsets)
        places = [forward.slots_of(self.stride.block(blocks, path, repeat), offsets) for path in paths]
        plain = len(paths) == 1 and len(batch.write_rows) == len(batch.tokens)
        return HeldRows(
            holder=self.stride.holder(repeat),
            metadata=self._read(paths[0], repeat),
            slots=torch.cat(places),
            written=None if plain else forward.tensor(batch.write_rows).repeat(len(paths)),
        )


class _Rows:
    """The rows of a decode step: who is due, and where their keys and values are."""

    def __init__(self, forward: Forward, step: DecodeStep, stride: Stride) -> None:
        self._forward = forward
        self._step = step
        self._stride = stride
        self._due: dict[tuple[tuple[int, int], ...], _Due] = {}

    def visit(self, visit: Visit, hidden: Hidden) -> None:
        """Run a layer for the rows that are due; changes `hidden`."""
        if visit.due not in self._due:
            self._due[visit.due] = self._prepare(visit.due)
        due = self._due[visit.due]
        if due.rows is None:
            self._forward.one_layer(visit.layer, hidden, due.positions, due.parts)
        elif len(due.rows):
            part = Hidden(hidden.states[due.rows], hidden.residual[due.rows])
            self._forward.one_layer(visit.layer, part, due.positions, due.parts)
            hidden.states[due.rows], hidden.residual[due.rows] = part.states, part.residual

    def _prepare(self, due: tuple[tuple[int, int], ...]) -> _Due:
        step, forward = self._step, self._forward
        repeat_of = np.full(self._stride.paths, -1, dtype=np.int64)
        for path, repeat in due:
            repeat_of[path] = repeat
        repeats = repeat_of[step.paths]
        rows = np.flatnonzero(repeats >= 0)
        holders = repeats[rows] % self._stride.holders
        parts = tuple(
            self._part(int(holder), rows[holders == holder], repeats) for holder in np.unique(holders)
        )
        if len(parts) > 1:
            parts = tuple(
                replace(part, rows=forward.tensor(np.flatnonzero(holders == part.holder))) for part in parts
            )
        everyone = len(rows) == len(step.paths)
        return _Due(None if everyone else forward.tensor(rows), forward.tensor(step.lengths[rows] - 1), parts)

    def _part(self, holder: int, rows: Ints, repeats: Ints) -> HeldRows:
        """The rows whose keys and values are in one holder."""
        step, forward, size = self._step, self._forward, self._forward.block_size
        lengths = step.lengths[rows]
        tables = self._stride.tables(step.tables[rows], step.paths[rows], repeats[rows])
        last = lengths - 1
        slots = tables[np.arange(len(rows)), last // size] * size + last % size
        metadata = forward.metadata(
            torch.arange(len(rows) + 1),
            torch.from_numpy(lengths),
            torch.from_numpy(tables),
            (1, int(lengths.max())),
        )
        return HeldRows(holder, metadata, forward.tensor(slots))


@dataclass(frozen=True)
class _Due:
    """The rows that are due for a layer."""

    rows: torch.Tensor | None
    """Null is all."""
    positions: torch.Tensor
    parts: tuple[HeldRows, ...]
