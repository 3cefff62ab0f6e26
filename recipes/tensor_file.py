"""Headers of safetensors files: read them, write them.

A file is 8 bytes (length of the header, little endian), the header (JSON: name -> dtype, shape, offsets) and
the tensors' bytes. No function here reads tensor data or imports torch.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from recipes.errors import CheckpointError
from recipes.outside_file import open_file

MAX_HEADER_BYTES = 16_000_000
"""Enough for 100,000 tensors with long names; the limit of the safetensors library is 100 MB."""
MAX_DIMENSIONS = 16
"""Maximum number of dimensions; the limit of torch is 64, checkpoints use at most five."""
_MAX_NUMBER = 2**63

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits per element of each safetensors dtype."""


class Frozen(BaseModel):
    """Base of the records of this package: immutable; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(Frozen):
    """Position, dtype and shape of a tensor in a safetensors file."""

    name: str = Field(description="Name in the file.")
    dtype: str = Field(description="Dtype in the spelling of safetensors, for example BF16.")
    shape: tuple[int, ...] = Field(description="Dimensions; empty for a scalar.")
    file: str = Field(description="Name of the file, relative to the checkpoint's directory.")
    start: int = Field(ge=0, description="Offset of the data from the start of the file, in bytes.")
    size_bytes: int = Field(ge=0, description="Size of the data in bytes.")

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(directory: Path, file: str) -> tuple[Tensor, ...]:
    """Tensors of `directory/file` in the order of their offsets. Raises CheckpointError for a damaged header."""
    path = directory / file
    try:
        with open_file(path) as stream:
            file_bytes = path.stat().st_size
            prefix = stream.read(8)
            if len(prefix) < 8:
                raise CheckpointError(f"{path} is cut short ({file_bytes} bytes): download or copy it again.")
            length = int.from_bytes(prefix, "little")
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path} claims a header of {length:,} bytes, which no safetensors file has: "
                    "it is damaged or not a safetensors file; download it again."
                )
            if length + 8 > file_bytes:
                raise CheckpointError(
                    f"{path} is cut short: its header alone needs {length + 8:,} bytes and the file has "
                    f"{file_bytes:,}; download or copy it again."
                )
            text = stream.read(length)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: download or copy the checkpoint again.") from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error
    with _gc_disabled():
        return _checked_tensors(parse_header(text, str(path)), path, file, 8 + length, file_bytes)


@contextlib.contextmanager
def _gc_disabled() -> Iterator[None]:
    """Disable the cyclic garbage collector, which doubles the time to create many tensor records."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse_header(text: bytes, where: str) -> dict[str, object]:
    """The header's JSON object, without `__metadata__`."""
    try:
        header = json.loads(text, object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{where} has no readable safetensors header: it is damaged; download it again."
        )
    header.pop("__metadata__", None)
    return header


def _reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name appears twice")
    return values


def _checked_tensors(
    header: dict[str, object], path: Path, file: str, base: int, file_bytes: int
) -> tuple[Tensor, ...]:
    tensors = sorted(
        (_tensor(n, e, path, file, base) for n, e in header.items()), key=lambda t: (t.start, t.size_bytes)
    )
    position = base
    for tensor in tensors:
        if tensor.start != position:
            raise CheckpointError(
                f"{path}: tensor {tensor.name} does not begin where the one before it ends: "
                "the file is damaged; download it again."
            )
        position += tensor.size_bytes
    if position > file_bytes:
        raise CheckpointError(
            f"{path} is cut short: its tensors need {position:,} bytes and the file has {file_bytes:,}; "
            "download or copy it again."
        )
    if position < file_bytes:
        raise CheckpointError(
            f"{path} has {file_bytes - position:,} bytes that belong to no tensor: it is damaged; download it again."
        )
    return tuple(tensors)


def _tensor(name: str, entry: object, path: Path, file: str, base: int) -> Tensor:
    if not isinstance(entry, dict):
        raise _damaged_entry(path, name)
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        raise _damaged_entry(path, name)
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS or not name.isprintable():
        raise _damaged_entry(path, name)
    if len(shape) > MAX_DIMENSIONS or not all(
        type(n) is int and 0 <= n < _MAX_NUMBER for n in (*shape, *offsets)
    ):
        raise _damaged_entry(path, name)
    size = offsets[1] - offsets[0]
    if size < 0 or size * 8 != math.prod(shape) * DTYPE_BITS[dtype]:
        raise _damaged_entry(path, name)
    return Tensor(
        name=name, dtype=dtype, shape=tuple(shape), file=file, start=base + offsets[0], size_bytes=size
    )


def _damaged_entry(path: Path, name: str) -> CheckpointError:
    shown = name if len(name) <= 200 else name[:197] + "..."
    return CheckpointError(
        f"{path}: the header entry of tensor {shown!r} is damaged; download the file again."
    )


def header_bytes(tensors: Iterable[Tensor]) -> bytes:
    """Header of a safetensors file that holds these tensors in this order; their `file` and `start` are ignored."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        end = position + tensor.size_bytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
