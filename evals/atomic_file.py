"""Atomic writes: files are written under a temporary name, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Context manager that yields a temporary path in the same folder; it replaces `path` unless the block raises.

    A replaced file keeps its permissions. With `sync` the content is flushed to disk before the rename, so that it
    survives a power failure. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield draft
        if path.exists():
            draft.chmod(path.stat().st_mode & 0o7777)
        if sync:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_file(path: Path, data: bytes | str, *, sync: bool = False) -> None:
    """Write a file atomically and create its folder; text is encoded as UTF-8. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, sync=sync) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)
