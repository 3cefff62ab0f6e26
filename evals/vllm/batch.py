"""A forward pass over a radix tree as plain arrays, which are sent to the workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.vllm.radix import Mark, RadixTree, Segment

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """The new tokens of a pass, their sequences, and where keys and values are written.

    Blocks are logical: a worker maps them to separate physical blocks for each path and each repetition of a layer.
    """

    tokens: Ints
    positions: Ints
    starts: Ints
    """Index of the first new token of each sequence, then the total number of new tokens."""
    lengths: Ints
    """Length of each sequence including its new tokens."""
    tables: Ints
    """Blocks of each sequence, padded with zeros."""
    write_rows: Ints
    """Index of the new token whose key and value are written; a token can be written to several blocks."""
    write_blocks: Ints
    """Block of each write."""
    write_offsets: Ints
    """Offset of each write in its block."""
    copies: Ints
    """Pairs of blocks (from, to) to copy before the pass."""


@dataclass(frozen=True)
class Penalty:
    """transformers' repetition penalty on the logits of some rows."""

    value: float
    seen: Ints
    """Distinct pairs (row, token) that are penalised: the tokens of the row's prompt and text."""


@dataclass(frozen=True)
class Step:
    """A forward pass and the predictions to read from it."""

    batch: Batch
    rows: Ints
    """Indices of the new tokens after which predictions are read."""
    lookups: Ints
    """Pairs (index into rows, token) whose log-probabilities are read."""
    penalty: Penalty | None = None
    """Applied to the likeliest tokens, not to log-probabilities. Its rows are indices into rows."""


@dataclass(frozen=True)
class StepResult:
    """Answer to a Step."""

    logprobs: list[float]
    """One per lookup."""
    best: list[int]
    """The likeliest token of each row."""


@dataclass(frozen=True)
class DecodeStep:
    """One more token for each of some rows (path, prompt)."""

    tokens: Ints
    """The newest token of each row."""
    paths: Ints
    """Path of each row."""
    lengths: Ints
    """Length of each row's sequence including its newest token."""
    tables: Ints
    """Logical blocks of each row's sequence, padded with zeros."""
    penalty: Penalty | None = None


def batch_of(tree: RadixTree, block_size: int) -> tuple[Batch, dict[int, list[Mark]]]:
    """The pass over a placed tree, and the marks of its new tokens by index."""
    packer = _Packer(block_size)
    for line in tree.lines():
        packer.add(line)
    return packer.batch(), packer.marks


class _Packer:
    def __init__(self, block_size: int) -> None:
        self._size = block_size
        self._segments: list[Segment] = []
        self._first: dict[int, int] = {}
        """First row of each segment, by its id."""
        self._rows = 0
        self._repeats: list[tuple[int, int, int]] = []
        self._copies: set[tuple[int, int]] = set()
        self.marks: dict[int, list[Mark]] = {}

    def add(self, line: tuple[Segment, ...]) -> None:
        """Add the last segment of a line; its ancestors were added before."""
        segment = line[-1]
        if not segment.computed:
            return
        self._first[id(segment)] = self._rows
        for offset, mark in segment.marks:
            self.marks.setdefault(self._rows + offset, []).append(mark)
        self._segments.append(segment)
        self._rows += len(segment.tokens)
        if segment.private is not None:
            self._repeat_block(line[:-1], segment)

    def _repeat_block(self, ancestors: tuple[Segment, ...], segment: Segment) -> None:
        """Fill the segment's private block up to the segment's start."""
        begin = segment.start // self._size * self._size
        assert segment.private is not None
        for ancestor in ancestors:
            positions = range(max(begin, ancestor.start), min(segment.start, ancestor.end))
            if not positions:
                continue
            if ancestor.computed:
                row = self._first[id(ancestor)] - ancestor.start
                self._repeats += [(row + at, segment.private, at - begin) for at in positions]
            else:
                self._copies.add((ancestor.table[begin // self._size], segment.private))

    def batch(self) -> Batch:
        """The pass over the added segments."""
        size, segments = self._size, self._segments
        sizes = np.array([len(segment.tokens) for segment in segments], dtype=np.int64)
        tables = np.zeros((len(segments), max(len(segment.table) for segment in segments)), dtype=np.int64)
        for number, segment in enumerate(segments):
            tables[number, : len(segment.table)] = segment.table
        positions = np.concatenate([np.arange(s.start, s.end, dtype=np.int64) for s in segments])
        owner = np.repeat(np.arange(len(segments)), sizes)
        repeats = np.array(self._repeats, dtype=np.int64).reshape(-1, 3)
        return Batch(
            tokens=np.concatenate([np.array(s.tokens, dtype=np.int64) for s in segments]),
            positions=positions,
            starts=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]),
            lengths=np.array([s.end for s in segments], dtype=np.int64),
            tables=tables,
            write_rows=np.concatenate([np.arange(len(positions)), repeats[:, 0]]),
            write_blocks=np.concatenate([tables[owner, positions // size], repeats[:, 1]]),
            write_offsets=np.concatenate([positions % size, repeats[:, 2]]),
            copies=np.array(sorted(self._copies), dtype=np.int64).reshape(-1, 2),
        )
