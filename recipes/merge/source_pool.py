"""Open weight files of checkpoints: mapped once and shared by all merges of a process.

Tensors of a mapped file share its pages with every other process that maps it. A file that was replaced is opened again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.checkpoint import weight_files
from recipes.errors import BuildError
from recipes.tensor_file import read_header

if TYPE_CHECKING:
    import torch

_MOST_OPEN = 64
"""Checkpoints that stay open; an open one costs file descriptors and address space, no memory of its own."""

FileState = tuple[int, int, int, int]


class TensorLoader:
    """Named tensors with the interface of mergekit's `LazyTensorLoader`; `read` maps a name to its tensor."""

    def __init__(
        self,
        names: Mapping[str, str],
        read: Callable[[str], torch.Tensor],
        identity: Hashable | None = None,
    ) -> None:
        self.index = _Index(names)
        self.identity = identity
        """Identifies the tensors in this process; None if nothing does."""
        self._read = read

    @classmethod
    def of_memory(cls, tensors: Mapping[str, torch.Tensor]) -> TensorLoader:
        """Tensors that are in memory."""
        return cls(dict.fromkeys(tensors, ""), tensors.__getitem__)

    def get_tensor(
        self,
        key: str,
        device: str = "cpu",
        aliases: Iterable[str] | None = None,
        raise_on_missing: bool = True,
    ) -> torch.Tensor | None:
        """The tensor of this name, or of the first alias that exists; KeyError or None if there is none."""
        name = next((n for n in (key, *(aliases or ())) if n in self.index.tensor_paths), None)
        if name is None:
            if raise_on_missing:
                raise KeyError(key)
            return None
        return self._read(name).to(device)

    def flush(self) -> None:
        """Nothing: mergekit asks its loaders to close files between shards, these stay open."""


class _Index:
    """The part of mergekit's `ShardedTensorIndex` that merges read."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.tensor_paths = dict(names)


class SourcePool:
    """The open checkpoints of a process."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[tuple[FileState, ...], TensorLoader]] = OrderedDict()

    def loader(self, directory: Path) -> TensorLoader:
        """The tensors of a checkpoint with safetensors weights. Raises BuildError and CheckpointError."""
        files = weight_files(directory)
        if not files:
            raise BuildError(f"{directory} has no safetensors weights: a live merge cannot read others.")
        state = tuple(_state(directory / file) for file in files)
        entry = self._open.get(directory)
        if entry is None or entry[0] != state:
            entry = state, _open(directory, files, identity=(directory, state))
            self._open[directory] = entry
        self._open.move_to_end(directory)
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return entry[1]


def _open(directory: Path, files: Iterable[str], identity: Hashable) -> TensorLoader:
    from safetensors import safe_open

    names = {tensor.name: file for file in files for tensor in read_header(directory, file)}
    handles: dict[str, Any] = {file: safe_open(directory / file, framework="pt") for file in files}

    def read(name: str) -> torch.Tensor:
        tensor: torch.Tensor = handles[names[name]].get_tensor(name)
        return tensor

    return TensorLoader(names, read, identity)


def _state(path: Path) -> FileState:
    try:
        status = os.stat(path)
    except OSError as error:
        raise BuildError(
            f"{path} cannot be read ({error.strerror}): download or copy the checkpoint again."
        ) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
