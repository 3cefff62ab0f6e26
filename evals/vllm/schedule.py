"""Order of the layers when several layer paths share a forward pass. Pure planning.

The first pass of a prompt follows a trie of the paths: paths share layers up to the first in which they differ. A decode step
runs in sweeps through the stack: a layer runs once for all paths that need it, so that its weights are read once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from evals.layer_visits import AnyVisit, VisitPath, has_attention, layer_of, order_key

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

Path = VisitPath

Blocks = TypeVar("Blocks", int, "torch.Tensor")


@dataclass(frozen=True)
class Stride:
    """Location of a layer's keys and values.

    Each path has separate blocks. Each repetition of a layer has a separate holder (a KV cache with the same block numbers), or
    separate blocks if there are more repetitions than holders.
    """

    paths: int
    repeats: int
    """Maximum number of times that a layer runs."""
    holders: int = 1
    """Number of KV caches of a layer."""

    @property
    def blocks(self) -> int:
        """Number of physical blocks of each logical block."""
        return self.paths * self._repeats_per_holder

    @property
    def _repeats_per_holder(self) -> int:
        return -(-self.repeats // self.holders)

    def holder(self, repeat: int) -> int:
        """Index of the layer's KV cache for this repetition."""
        return repeat % self.holders

    def block(self, logical: Blocks, path: int, repeat: int) -> Blocks:
        """Physical blocks; logical ones count from 1, because vLLM reserves block 0."""
        return (logical * self.paths + path) * self._repeats_per_holder + repeat // self.holders

    def tables(self, logical: Ints, paths: Ints, repeats: Ints) -> Ints:
        """Physical blocks of rows with individual paths and repetitions."""
        return (logical * self.paths + paths[:, None]) * self._repeats_per_holder + repeats[
            :, None
        ] // self.holders


@dataclass(frozen=True)
class ScheduledVisit:
    """One run of a layer or a part of it; `due` lists (path, how often it ran the layer's attention before)."""

    layer: AnyVisit
    due: tuple[tuple[int, int], ...]


@dataclass
class PathNode:
    """A run of visits that the same paths share, and its continuations."""

    layers: Path
    repeats: tuple[int, ...]
    """For each of the visits, how often its layer's attention ran before on the path."""
    paths: tuple[int, ...]
    """The paths that share the run."""
    ends: tuple[int, ...]
    """The paths that end with the run."""
    children: list[PathNode] = field(default_factory=list)


def occurrences(path: Path) -> tuple[int, ...]:
    """For each visit of the path, how often its layer's attention ran before; 0 for visits without attention.

    Each run of an attention has keys and values of its own, whatever part and factor the visit has.
    """
    times_run: dict[int, int] = {}
    counts = []
    for visit in path:
        if not has_attention(visit):
            counts.append(0)
            continue
        layer = layer_of(visit)
        counts.append(times_run.get(layer, 0))
        times_run[layer] = counts[-1] + 1
    return tuple(counts)


def most_repeats(paths: Sequence[Path]) -> int:
    """Maximum number of times that a path runs the attention of the same layer; at least 1."""
    return max((max(occurrences(path), default=0) + 1 for path in paths), default=1)


def path_trie(paths: Sequence[Path]) -> PathNode:
    """The trie of the paths; the child with the most paths comes last."""
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
    by_next_layer: dict[AnyVisit, list[int]] = {}
    for member in members:
        if len(paths[member]) > end:
            by_next_layer.setdefault(paths[member][end], []).append(member)
    for _, group in sorted(by_next_layer.items(), key=lambda way: (len(way[1]), order_key(way[0]))):
        node.children.append(_trie(tuple(group), end, paths, counts))
    return node


@functools.lru_cache(maxsize=4)
def cached_sweeps(paths: tuple[Path, ...]) -> list[ScheduledVisit]:
    """`sweeps`, cached for the decode steps of one group of paths."""
    return sweeps(paths)


def sweeps(paths: Sequence[Path]) -> list[ScheduledVisit]:
    """The visits of one decode step, ordered by sweep (a path's sweep ends when the next layer is not higher), then by layer."""
    counts = [occurrences(path) for path in paths]
    position = [0] * len(paths)
    sweep = [0] * len(paths)
    visits: list[ScheduledVisit] = []
    while True:
        waiting = [
            (sweep[p], paths[p][position[p]]) for p in range(len(paths)) if position[p] < len(paths[p])
        ]
        if not waiting:
            return visits
        turn, visit = min(waiting, key=lambda place: (place[0], order_key(place[1])))
        due = []
        for p, path in enumerate(paths):
            if position[p] < len(path) and (sweep[p], path[position[p]]) == (turn, visit):
                due.append((p, counts[p][position[p]]))
                position[p] += 1
                if position[p] < len(path) and layer_of(path[position[p]]) <= layer_of(visit):
                    sweep[p] += 1
        visits.append(ScheduledVisit(visit, tuple(due)))
