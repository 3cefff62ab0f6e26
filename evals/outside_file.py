"""Reads untrusted files and JSON within limits; rejects pipes and devices."""

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
    """Open a regular file for reading; OSError with the reason in `strerror` for a directory, pipe or device."""
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
    """The bytes of a regular file; OSError as in `open_file`, or if it has more than `limit` bytes."""
    with open_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return data


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text; ValueError if it is invalid, nested too deeply, or has too many values."""
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    if values_in(text) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES:,} values")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return storable(value) if "\\u" in text else value


def storable(value: Any) -> Any:
    """The value with lone surrogates and NUL replaced, so that UTF-8 and every database can store its strings."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    if isinstance(value, list):
        return [storable(item) for item in value]
    return {storable(k): storable(v) for k, v in value.items()} if isinstance(value, dict) else value


def values_in(text: str) -> int:
    """Upper bound of the number of values, by counting delimiters."""
    return sum(map(text.count, ",[{"))
