"""Copies byte ranges between files inside the kernel, and counts them."""

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
"""The ioctl that makes one file share another's blocks, copied on write (linux/fs.h)."""

_STEP_BYTES = 64 << 20
_READ_STEP_BYTES = 8 << 20

_UNSUPPORTED = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}
"""What the kernel says where two file systems do not take part in a way of copying."""


class CopyProgress(Frozen):
    """How far a copy is."""

    done_bytes: int = Field(description="Bytes of weights that are written.")
    total_bytes: int = Field(description="Bytes of weights that will be written.")


OnProgress = Callable[[CopyProgress], None]


class Meter:
    """Counts written bytes over all shards, and lets the rest stop when one of them fails."""

    def __init__(self, total_bytes: int, on_progress: OnProgress | None) -> None:
        self.total_bytes = total_bytes
        self.cancelled = False
        self._done_bytes = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes that were just written."""
        with self._lock:
            self._done_bytes += count
            if self._on_progress:
                self._on_progress(CopyProgress(done_bytes=self._done_bytes, total_bytes=self.total_bytes))


def copy_bytes(source: int, target: int, start: int, size: int, meter: Meter) -> None:
    """Append `size` bytes of one file to another; by the first of the three ways that works here."""
    position, end = start, start + size
    ways = [_by_range, _by_sendfile, _by_buffer]
    while position < end and not meter.cancelled:
        try:
            count = ways[0](source, target, position, min(_STEP_BYTES, end - position))
        except OSError as error:
            if len(ways) == 1 or error.errno not in _UNSUPPORTED:
                raise
            ways.pop(0)
            continue
        if count == 0:
            raise BuildError(
                "A source file became shorter while it was copied: download it again and rebuild."
            )
        position += count
        meter.add(count)


def copy_file(source: Path, target: Path) -> None:
    """A new file with the bytes of another one; a reflink where the file system has them (Btrfs, XFS), else a copy.

    The two never share an inode. Raises OSError.
    """
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError as error:
            if error.errno not in {*_UNSUPPORTED, errno.ENOTTY}:
                raise
            size = os.fstat(reader.fileno()).st_size
            copy_bytes(reader.fileno(), writer.fileno(), 0, size, Meter(size, None))


def _by_range(source: int, target: int, position: int, count: int) -> int:
    return os.copy_file_range(source, target, count, offset_src=position)


def _by_sendfile(source: int, target: int, position: int, count: int) -> int:
    return os.sendfile(target, source, position, count)


def _by_buffer(source: int, target: int, position: int, count: int) -> int:
    return os.write(target, os.pread(source, min(count, _READ_STEP_BYTES), position))
