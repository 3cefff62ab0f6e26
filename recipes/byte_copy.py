"""Copies byte ranges between files inside the kernel and reports progress."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from recipes.errors import BuildError
from recipes.tensor_file import Frozen

_FICLONE = 0x40049409
"""ioctl that makes a file share the blocks of another one, copy-on-write (linux/fs.h)."""

_STEP_BYTES = 64 << 20
_READ_STEP_BYTES = 8 << 20

_UNSUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}
"""Error codes of a copy method that two file systems do not support."""


class CopyProgress(Frozen):
    """Progress of a copy."""

    done_bytes: int = Field(description="Bytes of weights written so far.")
    total_bytes: int = Field(description="Bytes of weights to write in total.")


OnProgress = Callable[[CopyProgress], None]


class Meter:
    """Thread-safe count of written bytes over all shards; `cancelled` stops the other shards when one fails."""

    def __init__(self, total_bytes: int, on_progress: OnProgress | None) -> None:
        self.total_bytes = total_bytes
        self.cancelled = False
        self._done_bytes = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Add to the count and report."""
        with self._lock:
            self._done_bytes += count
            if self._on_progress:
                self._on_progress(CopyProgress(done_bytes=self._done_bytes, total_bytes=self.total_bytes))


def copy_bytes(source: int, target: int, start: int, size: int, meter: Meter) -> None:
    """Append `size` bytes of one file to another with the first method that the file systems support.

    `source` and `target` are file descriptors. Raises BuildError if the source is shorter than expected, and OSError.
    """
    position, end = start, start + size
    methods = [_copy_file_range, _sendfile, _read_write]
    while position < end and not meter.cancelled:
        try:
            count = methods[0](source, target, position, min(_STEP_BYTES, end - position))
        except OSError as error:
            if len(methods) == 1 or error.errno not in _UNSUPPORTED:
                raise
            methods.pop(0)
            continue
        if count == 0:
            raise BuildError(
                "A source file became shorter while it was copied: download it again and rebuild."
            )
        position += count
        meter.add(count)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to a new inode; as a reflink where the file system supports it (Btrfs, XFS). Raises OSError."""
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError as error:
            if error.errno not in {*_UNSUPPORTED, errno.ENOTTY}:
                raise
            size = os.fstat(reader.fileno()).st_size
            copy_bytes(reader.fileno(), writer.fileno(), 0, size, Meter(size, None))


def _copy_file_range(source: int, target: int, position: int, count: int) -> int:
    return os.copy_file_range(source, target, count, offset_src=position)


def _sendfile(source: int, target: int, position: int, count: int) -> int:
    return os.sendfile(target, source, position, count)


def _read_write(source: int, target: int, position: int, count: int) -> int:
    return os.write(target, os.pread(source, min(count, _READ_STEP_BYTES), position))
