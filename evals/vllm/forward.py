"""Forward passes outside vLLM's scheduler: vLLM's layers, kernels and KV cache with mergeboard's sequences and blocks.

Runs in the worker, while the scheduler is idle and its prefix cache is empty, so that every block is free.
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

from evals.layer_visits import LAYER, AnyVisit, VisitPath, factor_of, layer_of, part_of
from evals.partial_layers import restrict, shallow, stream
from evals.vllm.batch import Batch, DecodeStep, Ints, Penalty, Step, StepResult
from evals.vllm.schedule import PathNode, ScheduledVisit, Stride, cached_sweeps, path_trie
from evals.vllm.slots import LayerSlots, with_part


@dataclass
class Hidden:
    """Hidden states and residual of the new tokens, [tokens, hidden size]. vLLM's layers change both in place."""

    states: torch.Tensor
    residual: torch.Tensor

    def copy(self) -> Hidden:
        """A copy that does not share memory."""
        return Hidden(self.states.clone(), self.residual.clone())


@dataclass(frozen=True)
class HeldRows:
    """Rows of a layer's pass whose keys and values are in the same holder."""

    holder: int
    metadata: Any
    """The attention kernel's metadata of the rows' sequences."""
    slots: torch.Tensor
    """KV cache slots that keys and values are written to."""
    written: torch.Tensor | None = None
    """Row that each slot is written from; None: one slot per row, in order."""
    rows: torch.Tensor | None = None
    """Indices of the rows in the pass; None for all."""


@dataclass
class Running:
    """Parts of the running layer, set before each call of its attention."""

    parts: tuple[HeldRows, ...] = ()


class SpreadAttention(nn.Module):
    """A layer's attention that can write keys and values to several slots and holders before it reads them."""

    def __init__(self, holders: Sequence[nn.Module], running: Running) -> None:
        super().__init__()
        self._holders: tuple[Any, ...] = tuple(holders)
        self._running = running

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Write keys and values to the KV cache, then attend over it."""
        parts = self._running.parts
        if len(parts) == 1:
            return self._part(parts[0], query, key, value)
        output = torch.empty_like(query)
        for part in parts:
            output[part.rows] = self._part(part, query[part.rows], key[part.rows], value[part.rows])
        return output

    def _part(
        self, part: HeldRows, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        holder = self._holders[part.holder]
        keys = key.view(-1, holder.num_kv_heads, holder.head_size)
        values = value.view(-1, holder.num_kv_heads, holder.head_size)
        if part.written is not None:
            keys, values = keys.index_select(0, part.written), values.index_select(0, part.written)
        holder.impl.do_kv_cache_update(holder, keys, values, holder.kv_cache, part.slots)
        # The forward context contains no slots, so that the holder writes nothing.
        output: torch.Tensor = holder(query, key, value)
        return output


class Forward:
    """The model of one worker, run layer by layer.

    Each layer has the KV holder of its own slot and an equal share of the extra slots' holders; `Stride` maps a layer's
    repetitions to holders.
    """

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
        """`head_rows` is the number of rows whose logits are in memory at once, the same on every rank. If `answers` is false, the
        rank takes part in the computation but returns nothing; the driver reads the first rank's answers."""
        self._config = config
        self._device = device
        self._model: Any = runner.get_model()
        self._builder = runner.attn_groups[0][0].get_metadata_builder()
        self._head_rows = head_rows
        self._answers = answers
        # [blocks, KV heads, tokens of a block, keys and values]
        self.n_blocks, _, self.block_size, _ = slots.holders[0].kv_cache.shape
        self._running = Running()
        n = len(slots.sources)
        self.n_holders = len(slots.holders) // n
        self._holders: list[list[Any]] = [slots.holders[layer : self.n_holders * n : n] for layer in range(n)]
        self._layers: list[Any] = [
            with_part(layer, slots.stack.attention, SpreadAttention(holders, self._running))
            for layer, holders in zip(slots.sources, self._holders, strict=True)
        ]
        self._parts: dict[tuple[int, str], Any] = {}
        """Layers that run in part, by layer and part; made when first used."""

    def _running_layer(self, visit: AnyVisit) -> Any:
        """The layer, or its part, that a visit runs."""
        layer, part = layer_of(visit), part_of(visit)
        if part == LAYER:
            return self._layers[layer]
        if (layer, part) not in self._parts:
            twin = shallow(self._layers[layer])
            self._parts[layer, part] = restrict(twin, part)
        return self._parts[layer, part]

    @torch.inference_mode()
    def run(self, step: Step, paths: Sequence[VisitPath], stride: Stride) -> list[StepResult]:
        """Run the step on each path; common prefixes of paths run once."""
        results: dict[int, StepResult] = {}
        for path, hidden in self.prefill(step.batch, paths, stride):
            results[path] = self.look_up(hidden, step)
        return [results[path] for path in range(len(paths))]

    def prefill(
        self, batch: Batch, paths: Sequence[VisitPath], stride: Stride
    ) -> Iterator[tuple[int, Hidden]]:
        """The last hidden states of each path; writes the path's keys and values to its blocks."""
        for path in range(stride.paths):
            for repeat in range(stride.repeats):
                self._copy_blocks(batch.copies, path, repeat, stride)
        states = self._model.model.embed_input_ids(self.tensor(batch.tokens))
        pass_ = _Pass(self, batch, stride)
        yield from self._walk(path_trie(paths), Hidden(states, torch.zeros_like(states)), pass_)

    def _walk(self, node: PathNode, hidden: Hidden, pass_: _Pass) -> Iterator[tuple[int, Hidden]]:
        for layer, repeat in zip(node.layers, node.repeats, strict=True):
            # With a stride of one path, all paths use the same blocks.
            writers = node.paths if pass_.stride.paths > 1 else (0,)
            pass_.layer(layer, hidden, writers, repeat if pass_.stride.repeats > 1 else 0)
        for path in node.ends:
            yield path, hidden
        for number, child in enumerate(node.children):
            last = number == len(node.children) - 1
            yield from self._walk(child, hidden if last else hidden.copy(), pass_)

    @torch.inference_mode()
    def decode(self, step: DecodeStep, paths: tuple[VisitPath, ...], stride: Stride) -> list[int]:
        """The next token of each row; a layer runs once for all rows that need it at the same time."""
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
                best.append(self._likeliest_tokens(logits, begin, step.penalty))
        return torch.cat(best).tolist() if best else []

    def _logits(self, states: torch.Tensor) -> torch.Tensor | None:
        """Logits of the rows, gathered from all ranks; None on a rank that does not answer."""
        logits: torch.Tensor | None = self._model.compute_logits(states)
        return logits if self._answers else None

    def _likeliest_tokens(self, logits: torch.Tensor, begin: int, penalty: Penalty | None) -> torch.Tensor:
        """The likeliest token of each row after the penalty, on the device; the first row of the logits is row `begin`."""
        if penalty is not None:
            seen = penalty.seen[(penalty.seen[:, 0] >= begin) & (penalty.seen[:, 0] < begin + len(logits))]
            rows, tokens = self.tensor(seen[:, 0] - begin), self.tensor(seen[:, 1])
            logits = logits.float().clone()
            values = logits[rows, tokens]
            logits[rows, tokens] = torch.where(values < 0, values * penalty.value, values / penalty.value)
        return logits.argmax(dim=-1)

    def look_up(self, hidden: Hidden, step: Step) -> StepResult:
        """Log-probabilities (float32) of the step's lookups and the likeliest token of each of its rows."""
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
            lookups = step.lookups[(step.lookups[:, 0] >= begin) & (step.lookups[:, 0] < end)]
            lookup_rows, tokens = self.tensor(lookups[:, 0] - begin), self.tensor(lookups[:, 1])
            logprobs.append(logits[lookup_rows, tokens] - torch.logsumexp(logits, dim=-1)[lookup_rows])
            best.append(self._likeliest_tokens(logits, begin, step.penalty))
        if not best:
            return StepResult([], [])
        # Only here the host waits for the GPU.
        return StepResult(torch.cat(logprobs).tolist(), torch.cat(best).tolist())

    def one_layer(
        self, visit: AnyVisit, hidden: Hidden, positions: torch.Tensor, parts: tuple[HeldRows, ...]
    ) -> None:
        """Run one visit of a loaded layer; changes `hidden`."""
        self._running.parts = parts
        factor = factor_of(visit)
        before = stream(hidden.states, hidden.residual) if factor != 1 else None
        holders = self._holders[layer_of(visit)]
        metadata = {holders[part.holder].layer_name: part.metadata for part in parts}
        run = self._running_layer(visit)
        with set_forward_context(metadata, self._config, num_tokens=len(positions), slot_mapping={}):
            hidden.states, hidden.residual = run(positions, hidden.states, hidden.residual)
        if before is not None:
            hidden.states = torch.lerp(before, stream(hidden.states, hidden.residual), factor)
            hidden.residual = torch.zeros_like(before)

    def metadata(
        self, starts: torch.Tensor, lengths: torch.Tensor, tables: torch.Tensor, longest: tuple[int, int]
    ) -> Any:
        """The attention kernels' metadata of the sequences; `longest` is (new tokens, length)."""
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
        # fast_build skips the precomputed schedule: FlashAttention keeps it in one buffer with one entry per scheduled sequence,
        # but there are more sequences here, and several schedules in use at once.
        return self._builder.build(common_prefix_len=0, common_attn_metadata=common, fast_build=True)

    def slots_of(self, blocks: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Slots of the KV cache."""
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
    """Positions, metadata and write slots of one batch, computed once for all layers."""

    def __init__(self, forward: Forward, batch: Batch, stride: Stride) -> None:
        self.stride = stride
        self._forward = forward
        self._batch = batch
        self._positions = forward.tensor(batch.positions)
        self._metadata: dict[tuple[int, int], Any] = {}
        self._parts: dict[tuple[tuple[int, ...], int], HeldRows] = {}

    def layer(self, layer: AnyVisit, hidden: Hidden, paths: tuple[int, ...], repeat: int) -> None:
        """Run one visit for these paths; writes keys and values for all of them and reads those of the first."""
        if (paths, repeat) not in self._parts:
            self._parts[paths, repeat] = self._part(paths, repeat)
        self._forward.one_layer(layer, hidden, self._positions, (self._parts[paths, repeat],))

    def _metadata_of(self, path: int, repeat: int) -> Any:
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
        slots = [forward.slots_of(self.stride.block(blocks, path, repeat), offsets) for path in paths]
        plain = len(paths) == 1 and len(batch.write_rows) == len(batch.tokens)
        return HeldRows(
            holder=self.stride.holder(repeat),
            metadata=self._metadata_of(paths[0], repeat),
            slots=torch.cat(slots),
            written=None if plain else forward.tensor(batch.write_rows).repeat(len(paths)),
        )


class _Rows:
    """The rows of a decode step, selected layer by layer, with the location of their keys and values."""

    def __init__(self, forward: Forward, step: DecodeStep, stride: Stride) -> None:
        self._forward = forward
        self._step = step
        self._stride = stride
        self._due: dict[tuple[tuple[int, int], ...], _Due] = {}

    def visit(self, visit: ScheduledVisit, hidden: Hidden) -> None:
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
        all_rows = len(rows) == len(step.paths)
        return _Due(None if all_rows else forward.tensor(rows), forward.tensor(step.lengths[rows] - 1), parts)

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
    """None for all."""
    positions: torch.Tensor
    parts: tuple[HeldRows, ...]
