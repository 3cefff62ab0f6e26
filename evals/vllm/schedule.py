"""In which order layers run when several layer paths share a forward pass. Pure planning.

A prompt's first pass is shared by all paths as far as their layers agree: a trie of paths. A decode step runs a layer once
for all paths that are due for it, so its weights are read once: paths go through the stack in sweeps.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

Path = tuple[int, ...]

Blocks = TypeVar("Blocks", int, "torch.Tensor")


@dataclass(frozen=True)
class Stride:
    """Where a layer's keys and values are: each path has blocks of its own, and each repetition of a layer a holder (a KV
    cache with blocks of the same numbers), or blocks of its own where there are more repetitions than holders."""

    paths: int
    repeats: int
    """How often a layer runs at most."""
    holders: int = 1
    """How many KV caches a layer has."""

    @property
    def blocks(self) -> int:
        """Physical blocks of each logical one."""
        return self.paths * self._deep

    @property
    def _deep(self) -> int:
        return -(-self.repeats // self.holders)

    def holder(self, repeat: int) -> int:
        """Number of the layer's KV cache for this repetition."""
        return repeat % self.holders

    def block(self, logical: Blocks, path: int, repeat: int) -> Blocks:
        """Physical blocks; logical ones count from 1, since vLLM keeps block 0 for itself."""
        return (logical * self.paths + path) * self._deep + repeat // self.holders

    def tables(self, logical: Ints, paths: Ints, repeats: Ints) -> Ints:
        """Physical blocks of rows, each on a path and in a repetition of its own."""
        return (logical * self.paths + paths[:, None]) * self._deep + repeats[:, None] // self.holders


@dataclass(frozen=True)
class Visit:
    """A layer, for all rows of some paths: (path, how often it ran the layer before)."""

    layer: int
    due: tuple[tuple[int, int], ...]


@dataclass
class PathNode:
    """A run of layers that the same paths share, and how they go on."""

    layers: tuple[int, ...]
    repeats: tuple[int, ...]
    """How often each of the layers ran before, on the way here."""
    paths: tuple[int, ...]
    """The paths that come through."""
    ends: tuple[int, ...]
    """Those of them that end here."""
    children: list[PathNode] = field(default_factory=list)


def occurrences(path: Path) -> tuple[int, ...]:
    """For each layer of the path, how often it ran before."""
    seen: dict[int, int] = {}
    counts = []
    for layer in path:
        counts.append(seen.get(layer, 0))
        seen[layer] = counts[-1] + 1
    return tuple(counts)


def most_repeats(paths: Sequence[Path]) -> int:
    """How many KV caches a layer needs at most, over the paths."""
    return max((max(occurrences(path), default=0) + 1 for path in paths), default=1)


def path_trie(paths: Sequence[Path]) -> PathNode:
    """What the paths share from their first layer on; a child that most paths take comes last."""
    return _trie(tuple(range(len(paths))), 0, paths, [occurrences(path) for path in paths])


def _trie(
    members: tuple[int, ...], depth: int, paths: Sequence[Path], counts: Sequence[tuple[int, ...]]
) -> PathNode:
    first = members[0]
    end = depth
    while all(
        len(paths[m]) > end and paths[m][: end + 1][depth:] == paths[first][depth : end + 1] for m in members
    ):
        end += 1
    ends = tuple(m for m in members if len(paths[m]) == end)
    node = PathNode(paths[first][depth:end], counts[first][depth:end], members, ends)
    ways: dict[int, list[int]] = {}
    for member in members:
        if len(paths[member]) > end:
            ways.setdefault(paths[member][end], []).append(member)
    for _, group in sorted(ways.items(), key=lambda way: (len(way[1]), way[0])):
        node.children.append(_trie(tuple(group), end, paths, counts))
    return node


@functools.lru_cache(maxsize=4)
def cached_sweeps(paths: tuple[Path, ...]) -> list[Visit]:
    """`sweeps`, kept for the decode steps of one group of paths."""
    return sweeps(paths)


def sweeps(paths: Sequence[Path]) -> list[Visit]:
    """The visits of one decode step: lowest sweep first (a path's sweep ends where it turns back), then lowest layer."""
    counts = [occurrences(path) for path in paths]
    at = [0] * len(paths)
    sweep = [0] * len(paths)
    visits: list[Visit] = []
    while True:
        waiting = [(sweep[p], paths[p][at[p]]) for p in range(len(paths)) if at[p] < len(paths[p])]
        if not waiting:
            return visits
        turn, layer = min(waiting)
        due = []
        for p, path in enumerate(paths):
            if at[p] < len(path) and (sweep[p], path[at[p]]) == (turn, layer):
                due.append((p, counts[p][at[p]]))
                at[p] += 1
                if at[p] < len(path) and path[at[p]] <= layer:
                    sweep[p] += 1
        visits.append(Visit(layer, tuple(due)))
