"""Whether a pinned checkpoint still is what was pinned: asked again wherever its files are opened.

Local files are compared by their digest, the hub's by the hashes that name them in its cache. Hashes are kept by path,
inode, size and times, so that asking again costs a look at each file.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recipes.atomic_file import write_file
from recipes.checkpoint import weights_digest
from recipes.checkpoint_files import loadable_files
from recipes.errors import CheckpointChanged
from recipes.file_hash import HashKind, file_hash
from recipes.sources import parse, resolve

_BLOB_HASHES = {64: (HashKind.SHA256,), 40: (HashKind.GIT_BLOB, HashKind.SHA1)}
"""In the hub's cache a file is a link to a blob, which is named by its sha256 (large files) or its git hash (others)."""


def verified_source(reference: str, weights_digest_: str, *, home: Path, allow_pickles: bool = False) -> Path:
    """Directory of a pinned source, downloaded if it must be; see `recipes.sources.PinnedSource` for the two strings.

    Raises CheckpointChanged where its files are others than those that were pinned, CheckpointError where it is missing.
    """
    directory = resolve(reference, None, home=home, allow_pickles=allow_pickles)
    if weights_digest_ == reference and parse(reference, None).revision:
        _require_snapshot(directory, reference, home / "cache")
        return directory
    found = weights_digest(directory, home / "cache")
    if found != weights_digest_:
        raise CheckpointChanged(
            f"{directory} does not hold what was planned (its files have the digest {found[:12]}, planned was "
            f"{weights_digest_[:12]}): put the planned files back, or run the plan again."
        )
    return directory


def _require_snapshot(directory: Path, reference: str, cache_dir: Path) -> None:
    """Raise CheckpointChanged for a file of a hub snapshot that is not what its commit holds."""
    names = loadable_files(directory)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        wrong = [
            name
            for name, same in zip(
                names, pool.map(lambda n: _is_intact(directory / n, cache_dir), names), strict=True
            )
            if same is False
        ]
    unnamed = {
        name: file_hash(directory / name, cache_dir) for name in names if _blob(directory / name) is None
    }
    wrong += _differing(reference, unnamed, cache_dir)
    if wrong:
        raise CheckpointChanged(
            f"{directory / wrong[0]} is not the file of {reference}: delete {directory.parent.parent} and download it again."
        )


def _blob(path: Path) -> str | None:
    """The hash that a cached file's blob is named by; null for a plain file, as caches without links have them."""
    if not path.is_symlink():
        return None
    name = path.resolve().name
    is_hash = len(name) in _BLOB_HASHES and set(name) <= set("0123456789abcdef")
    return name if is_hash else None


def _is_intact(path: Path, cache_dir: Path) -> bool | None:
    blob = _blob(path)
    return (
        None
        if blob is None
        else any(file_hash(path, cache_dir, kind) == blob for kind in _BLOB_HASHES[len(blob)])
    )


def _differing(reference: str, hashes: dict[str, str], cache_dir: Path) -> list[str]:
    """Files without a named hash that differ from when this commit was first opened; their hashes are noted then."""
    if not hashes:
        return []
    note = cache_dir / "snapshots" / f"{reference.replace('/', '--')}.json"
    try:
        known = json.loads(note.read_text())
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError):
        return []
    if not isinstance(known, dict):
        return []
    if hashes.keys() - known.keys():
        write_file(note, json.dumps({**hashes, **known}))
    return [name for name, digest in hashes.items() if known.get(name, digest) != digest]
