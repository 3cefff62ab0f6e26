"""The unit of work that is handed to the workers: one forward pass over many segments, as plain arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.vllm.radix import Mark, Segment

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Sequences of one forward pass: their new tokens, and where the keys and values of all their tokens are."""

    tokens: Ints
    positions: Ints
    slots: Ints
    """KV slot of each new token: block * block size + place in the block."""
    starts: Ints
    """First new token of each sequence, and the number of new tokens at the end."""
    lengths: Ints
    """Length of each sequence with its new tokens."""
    tables: Ints
    """Blocks of each sequence, filled up with zeros."""
    copies: Ints
    """Pairs of blocks (from, to) to copy before the pass."""


@dataclass(frozen=True)
class Step:
    """A forward pass, and the predictions that are wanted of it."""

    batch: Batch
    rows: Ints
    """New tokens after which predictions are wanted."""
    lookups: Ints
    """Pairs (index into rows, token) whose log-probabilities are wanted."""


@dataclass(frozen=True)
class StepResult:
    """Answer to a Step."""

    logprobs: list[float]
    """One per lookup."""
    best: list[int]
    """The likeliest token of each row."""


def batch_of(segments: Sequence[Segment], block_size: int) -> Batch:
    """One forward pass over these segments."""
    lengths = np.array([segment.end for segment in segments], dtype=np.int64)
    sizes = np.array([len(segment.tokens) for segment in segments], dtype=np.int64)
    tables = np.zeros((len(segments), max(len(segment.table) for segment in segments)), dtype=np.int64)
    for row, segment in enumerate(segments):
        tables[row, : len(segment.table)] = segment.table
    positions = np.concatenate(
        [np.arange(segment.start, segment.end, dtype=np.int64) for segment in segments]
    )
    owner = np.repeat(np.arange(len(segments)), sizes)
    slots = tables[owner, positions // block_size] * block_size + positions % block_size
    copies = [segment.copy_block for segment in segments if segment.copy_block]
    return Batch(
        tokens=np.concatenate([np.array(segment.tokens, dtype=np.int64) for segment in segments]),
        positions=positions,
        slots=slots,
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        lengths=lengths,
        tables=tables,
        copies=np.array(copies, dtype=np.int64).reshape(-1, 2),
    )


def chunks(level: Sequence[Segment], most_tokens: int) -> Iterator[list[Segment]]:
    """The segments of a level in forward passes of bounded size; a longer segment has a pass to itself."""
    chunk: list[Segment] = []
    size = 0
    for segment in level:
        if chunk and size + len(segment.tokens) > most_tokens:
            yield chunk
            chunk, size = [], 0
        chunk.append(segment)
        size += len(segment.tokens)
    if chunk:
        yield chunk


def marked_rows(segments: Sequence[Segment], starts: Ints) -> tuple[list[int], list[list[Mark]]]:
    """New tokens after which predictions are wanted, and by whom."""
    found: dict[int, list[Mark]] = {}
    for segment, start in zip(segments, starts.tolist(), strict=False):
        for offset, mark in segment.marks:
            found.setdefault(start + offset, []).append(mark)
    return list(found), list(found.values())
