"""Hashes of files, streamed, and kept from one run to the next by path, inode, size and times."""

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
"""A file changed less than this ago may change again unseen: its hash is not kept."""

_CHUNK_BYTES = 1 << 22


class FileState(NamedTuple):
    """What tells a file from itself after a change: a program can set back `mtime_ns`, but not `ctime_ns`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The present state; OSError where there is no such file."""
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    @property
    def changed_s(self) -> float:
        """Seconds since 1970 of the last change of content or attributes."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


class HashKind(StrEnum):
    """Ways of hashing a file; all give lower-case hex."""

    SHA256 = "sha256"
    GIT_BLOB = "git-blob"
    """sha1 over `blob SIZE\\0` and the bytes, as git and the hub name small files."""
    SHA1 = "sha1"
    """As some mirrors of the hub name files."""


def file_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """sha256 of one file, in hex; see `file_hash`."""
    return file_hash(path, cache_dir, HashKind.SHA256)


def file_hash(path: Path, cache_dir: Path | None = None, kind: HashKind = HashKind.SHA256) -> str:
    """Hash of one file; from the cache where the file's state is the one that was hashed.

    A file's name is never taken for its hash, also not in the hub's cache. Raises CheckpointError where it cannot be read.
    """
    try:
        real = path.resolve(strict=True)
        before = FileState.of(real)
        key = hashlib.sha256(os.fsencode(real)).hexdigest()
        entry = cache_dir / "hashes" / f"{key}.json" if cache_dir else None
        if entry and (known := _read_entry(entry, before, kind)):
            return known
        digest = _stream_hash(real, kind, before.size)
        unchanged = FileState.of(real) == before
        if entry and unchanged and time.time() - before.changed_s > _RACY_S:
            _write_entry(entry, {**before._asdict(), kind.value: digest})
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
    """The cache only saves time: where it cannot be written, hashing goes on without it."""
    try:
        write_file(entry, json.dumps(value))
    except OSError:
        return
