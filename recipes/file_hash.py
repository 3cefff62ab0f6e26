"""sha256 of files, streamed, and kept from one run to the next by path, size and time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path

from recipes.errors import CheckpointError

_RACY_S = 2.0
"""A file changed less than this ago may change again unseen: its hash is not kept."""

_HUB_BLOB = re.compile(r"/models--[^/]+/blobs/[0-9a-f]{64}$")
"""In the hub's cache a large file's name is its sha256."""

_CHUNK_BYTES = 1 << 22


def file_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """sha256 of one file; from the cache, or from a hub cache whose file names are hashes, where possible."""
    try:
        real = path.resolve(strict=True)
        if _HUB_BLOB.search(real.as_posix()):
            return real.name
        before = real.stat()
        key = hashlib.sha256(os.fsencode(real)).hexdigest()
        note = {"size": before.st_size, "mtime_ns": before.st_mtime_ns, "inode": before.st_ino}
        entry = cache_dir / "hashes" / f"{key}.json" if cache_dir else None
        if entry and (known := _read_entry(entry, note)):
            return known
        digest = _stream_sha256(real)
        unchanged = real.stat().st_mtime_ns == before.st_mtime_ns
        if entry and unchanged and time.time() - before.st_mtime > _RACY_S:
            _write_entry(entry, {**note, "sha256": digest})
        return digest
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): download or copy it again."
        ) from error


def _stream_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _read_entry(entry: Path, note: dict[str, int]) -> str | None:
    try:
        stored = json.loads(entry.read_text())
    except (OSError, ValueError):
        return None
    if isinstance(stored, dict) and all(stored.get(key) == value for key, value in note.items()):
        return stored.get("sha256")
    return None


def _write_entry(entry: Path, value: dict[str, int | str]) -> None:
    """The cache only saves time: where it cannot be written, hashing goes on without it."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=entry.parent, prefix=".")
        with os.fdopen(handle, "w") as stream:
            json.dump(value, stream)
        Path(name).rename(entry)
    except OSError:
        return
