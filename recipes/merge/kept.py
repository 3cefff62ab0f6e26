"""Tensors that merges of this process keep for the next ones, bounded in bytes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Tensors = tuple["torch.Tensor", ...]

SHARE = 8
"""By default an eighth of the machine's memory may be used in each process."""
RESERVE = 8
"""While less than an eighth of the machine's memory is free, nothing is kept: other processes need it."""
MERGES = 16
"""What so many merges did not use is dropped: another search has begun."""


@dataclass
class _Entry:
    tensors: Tensors
    size: int
    merge: int
    """Number of the merge that used it last."""


class KeptTensors:
    """Tensors by key.

    A merge reads every key once, in the same order as the merge before. The least recently used entry would be the one that is needed
    next, so entries of this and of the last merge stay, and what does not fit beside them is not kept.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._merge = 0
        self._limit = 0
        self.size = 0
        """Bytes of all tensors."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def begin(self, limit_bytes: int) -> None:
        """Begin a merge, during which at most this many bytes are kept."""
        self._merge += 1
        self._limit = limit_bytes
        for key in [key for key, entry in self._entries.items() if entry.merge < self._merge - MERGES]:
            self.size -= self._entries.pop(key).size
        self._make_room(self.size - limit_bytes, before=self._merge)

    def get(self, key: Hashable) -> Tensors | None:
        """The tensors, if they are kept; they must not be changed."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.merge = self._merge
        return entry.tensors

    def keep(self, key: Hashable, tensors: Tensors) -> None:
        """Keep the tensors, if there is room."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        excess = self.size + size - self._limit
        if excess > 0 and not self._make_room(excess, before=self._merge - 1):
            return
        previous = self._entries.pop(key, None)
        self.size += size - (previous.size if previous else 0)
        self._entries[key] = _Entry(tensors, size, self._merge)

    def get_or_make(self, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """The tensors, made and kept if there are none."""
        tensors = self.get(key)
        if tensors is None:
            tensors = make()
            self.keep(key, tensors)
        return tensors

    def get_or_make_repeated(self, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """The tensors, kept when they are made for the second time: those of searched numbers do not come again."""
        earlier = self.get(key)
        if earlier:
            return earlier
        tensors = make()
        self.keep(key, () if earlier is None else tensors)
        return tensors

    def _make_room(self, excess: int, before: int) -> bool:
        """Drop entries that were last used before this merge, the oldest first, until `excess` bytes are free."""
        for key, entry in sorted(self._entries.items(), key=lambda item: item[1].merge):
            if excess <= 0 or entry.merge >= before:
                break
            del self._entries[key]
            self.size -= entry.size
            excess -= entry.size
        return excess <= 0


@functools.cache
def kept() -> KeptTensors:
    """What the merges of this process keep."""
    return KeptTensors()


def bytes_to_keep(limit_bytes: int | None) -> int:
    """How much a merge may keep: the limit, or a share of the machine's memory; nothing while memory is short."""
    total, available = _memory()
    if available < total // RESERVE:
        return 0
    return total // SHARE if limit_bytes is None else limit_bytes


def _memory() -> tuple[int, int]:
    """Memory of the machine, or of its container if that has less, in bytes: in total, and what processes can still get."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = _number(Path("/proc/meminfo"), "MemAvailable:")
    group = Path("/sys/fs/cgroup")
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    reclaimable = _number(group / "memory.stat", "inactive_file") or 0
    free = total if available is None else available * 1024
    if limit is None or used is None or limit >= total:
        return total, free
    return limit, min(free, limit - used + reclaimable)


def _number(file: Path, name: str | None = None) -> int | None:
    """The number in a file, or behind this name in it; None where there is none."""
    try:
        words = file.read_text().split()
    except OSError:
        return None
    place = 0 if name is None else words.index(name) + 1 if name in words else len(words)
    return int(words[place]) if place < len(words) and words[place].isdigit() else None


@dataclass(frozen=True)
class Replacement:
    """What stands for one of mergekit's functions and keeps what it computes."""

    kept_tensors: KeptTensors
    next_vector: Callable[[], Hashable | None]
    """What identifies the task vector that comes next; None if nothing does."""
    original: Callable[..., Any]
