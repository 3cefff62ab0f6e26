"""Files and JSON that somebody else wrote, read within bounds: never a pipe or device, never more than is said."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON_VALUES = 2_000_000
"""Most values of one JSON text; each takes some 100 bytes of memory, however short it is written."""


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, open for reading; OSError, whose `strerror` says why, for a directory, pipe or device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL character") from None
    file = os.fdopen(descriptor, "rb")  # refuses a directory
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file", str(path))
    return file


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of an ordinary file; OSError as `open_file` raises it, or where it has more than `limit` bytes."""
    with open_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return data


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text; ValueError for one that is not JSON, nested too deeply, or of too many values."""
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    if values_in(text) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return storable(value) if "\\u" in text else value


def storable(value: Any) -> Any:
    """Text that UTF-8 and every database can hold: lone surrogates and NUL become marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    if isinstance(value, list):
        return [storable(item) for item in value]
    return {storable(k): storable(v) for k, v in value.items()} if isinstance(value, dict) else value


def values_in(text: str) -> int:
    """At most so many values, counted by the signs before them."""
    return sum(map(text.count, ",[{"))
