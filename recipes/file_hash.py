"""Streamed hashes of files, cached between runs by path, inode, size and times."""

from __future__ import annotations

import hashlib
import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from recipes.atomic_file import write_file
from recipes.errors import CheckpointError

_RACY_S = 2.0
"""Hashes of files that changed less than this long ago are not cached: a second change may leave the same times."""

_CHUNK_BYTES = 1 << 22


class FileState(NamedTuple):
    """Size, times and inode, which change when a file changes; programs can set `mtime_ns` but not `ctime_ns`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Read the current state. Raises OSError."""
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    @property
    def changed_s(self) -> float:
        """Time of the last change of content or attributes, in seconds since 1970."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


class HashKind(StrEnum):
    """Hash functions; all give lower-case hex."""

    SHA256 = "sha256"
    GIT_BLOB = "git-blob"
    """sha1 over `blob SIZE\\0` and the bytes, the name of small files in git and on the hub."""
    SHA1 = "sha1"
    """Plain sha1; some mirrors of the hub name files by it."""


def file_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """sha256 of one file, in hex; see `file_hash`."""
    return file_hash(path, cache_dir, HashKind.SHA256)


def file_hash(path: Path, cache_dir: Path | None = None, kind: HashKind = HashKind.SHA256) -> str:
    """Hash of one file, from the cache if the file's state is unchanged.

    The hash is computed even for blobs of the hub's cache, which are named by it. Raises CheckpointError.
    """
    try:
        resolved = path.resolve(strict=True)
        state = FileState.of(resolved)
        key = hashlib.sha256(os.fsencode(resolved)).hexdigest()
        entry = cache_dir / "hashes" / f"{key}.json" if cache_dir else None
        if entry and (cached := _read_entry(entry, state, kind)):
            return cached
        digest = _stream_hash(resolved, kind, state.size)
        unchanged = FileState.of(resolved) == state
        if entry and unchanged and time.time() - state.changed_s > _RACY_S:
            _write_entry(entry, {**state._asdict(), kind.value: digest})
        return digest
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): download or copy it again."
        ) from error


def _stream_hash(path: Path, kind: HashKind, size: int) -> str:
    digest = hashlib.sha256() if kind is HashKind.SHA256 else hashlib.sha1()
    if kind is HashKind.GIT_BLOB:
        digest.update(f"blob {size}\0".encode())
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _read_entry(entry: Path, state: FileState, kind: HashKind) -> str | None:
    try:
        stored = json.loads(entry.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or any(
        stored.get(key) != value for key, value in state._asdict().items()
    ):
        return None
    digest = stored.get(kind.value)
    return digest if isinstance(digest, str) else None


def _write_entry(entry: Path, value: dict[str, int | str]) -> None:
    """Write a cache entry; errors are ignored, because the cache only saves time."""
    try:
        write_file(entry, json.dumps(value))
    except OSError:
        return
