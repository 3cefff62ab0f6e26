"""Bounded reading of untrusted files and JSON: regular files only, with a size limit."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON_VALUES = 2_000_000
"""Maximum number of values in one JSON text; each takes about 100 bytes of memory."""


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError with a reason in `strerror` for a directory, pipe or device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL character") from None
    file = os.fdopen(descriptor, "rb")  # raises for a directory
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket, not a file", str(path))
    return file


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file. Raises OSError as `open_file` does, and for more than `limit` bytes."""
    with open_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return data


def parse_json(text: bytes | str) -> Any:
    """Parse JSON. Raises ValueError for invalid JSON, too deep nesting, or too many values."""
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    if values_in(text) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return storable(value) if "\\u" in text else value


def storable(value: Any) -> Any:
    """Replace lone surrogates and NUL in all texts, so that UTF-8 and every database can store the value."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    if isinstance(value, list):
        return [storable(item) for item in value]
    return {storable(k): storable(v) for k, v in value.items()} if isinstance(value, dict) else value


def values_in(text: str) -> int:
    """Upper bound of the number of JSON values: the count of `,`, `[` and `{`."""
    return sum(map(text.count, ",[{"))
