"""Names, dtypes and shapes of the tensors in a checkpoint's weight files, without reading tensor data."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.errors import EngineError, first_line

HEADER_LIMIT = 100_000_000
"""Maximum header size in bytes, as in the safetensors library."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's dtype and shape in a weight file."""

    dtype: str
    """In safetensors' spelling, for example BF16; in torch's for pickles, for example bfloat16."""
    shape: tuple[int, ...]
    """Dimensions."""


def stored_tensors(checkpoint: Path) -> dict[str, StoredTensor] | None:
    """Tensors by name, of the safetensors files or else of pytorch_model.bin; None if there are neither.

    Raises EngineError for a file that is missing, damaged, or a pickle without tensors.
    """
    files, read_file = _weight_files(checkpoint, "model.safetensors"), _read_header
    if files is None:
        # Some repositories contain Mistral's format as well.
        files = [
            path
            for path in sorted(checkpoint.glob("*.safetensors"))
            if not path.name.startswith(("consolidated", "adapter"))
        ]
    if not files:
        files, read_file = _weight_files(checkpoint, "pytorch_model.bin") or [], _read_pickle
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors |= read_file(file)
    return tensors if files else None


def _weight_files(checkpoint: Path, single: str) -> list[Path] | None:
    """The files named by `single`'s index, or the single file; None if there is neither."""
    index = checkpoint / f"{single}.index.json"
    if index.is_file():
        stated = _parse_object(index, index.read_bytes()).get("weight_map")
        if not isinstance(stated, dict):
            raise EngineError(f"{index} has no weight_map: download or build the checkpoint again.")
        return [checkpoint / str(file) for file in sorted(set(map(str, stated.values())))]
    return [checkpoint / single] if (checkpoint / single).is_file() else None


def _read_header(path: Path) -> dict[str, StoredTensor]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 0 < size <= HEADER_LIMIT:
                raise EngineError(
                    f"{path} is not a safetensors file: download or build the checkpoint again."
                )
            header = _parse_object(path, file.read(size))
    except OSError as error:
        raise _unreadable(path, error) from error
    header.pop("__metadata__", None)
    return {name: _tensor(path, name, entry) for name, entry in header.items()}


def _tensor(path: Path, name: str, entry: object) -> StoredTensor:
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise EngineError(
            f"{path}: the header's entry of {name[:200]!r} is damaged; download or build the checkpoint again."
        )
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise EngineError(
            f"{path}: the shape of {name[:200]!r} is damaged; download or build the checkpoint again."
        )
    return StoredTensor(dtype, tuple(shape))


def _read_pickle(path: Path) -> dict[str, StoredTensor]:
    import torch

    try:
        # With mmap and the meta device no storage is read; files from before torch 1.6 are not archives and cannot be mapped.
        values = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(values, dict):
        raise EngineError(f"{path} holds no named tensors: download or build the checkpoint again.")
    return {
        str(name): StoredTensor(str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def _parse_object(path: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(value, dict):
        raise EngineError(f"{path} holds no JSON object: download or build the checkpoint again.")
    return value


def _unreadable(path: Path, error: Exception) -> EngineError:
    reason = first_line(error)
    return EngineError(f"{path} cannot be read ({reason}): download or build the checkpoint again.")
