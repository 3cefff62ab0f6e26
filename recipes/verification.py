"""Checks that a checkpoint's files are those that were pinned; done wherever they are opened.

Local files are compared by digest, snapshots of the hub by the hashes that name their blobs. File hashes are cached by
path, inode, size and times, so that a repeated check only needs a stat of each file.
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
"""Possible hashes by length of a blob's name: the hub's cache links files to blobs named by sha256 or git hash."""


def verified_source(reference: str, weights_digest_: str, *, home: Path, allow_pickles: bool = False) -> Path:
    """Directory of a pinned source, downloaded if necessary; `recipes.sources.PinnedSource` describes the two strings.

    Raises CheckpointChanged if the files differ from those that were pinned, CheckpointError if it is missing.
    """
    directory = resolve(reference, None, home=home, allow_pickles=allow_pickles)
    if weights_digest_ == reference and parse(reference, None).revision:
        _check_snapshot(directory, reference, home / "cache")
        return directory
    digest = weights_digest(directory, home / "cache")
    if digest != weights_digest_:
        raise CheckpointChanged(
            f"{directory} does not hold what was planned (its files have the digest {digest[:12]}, planned was "
            f"{weights_digest_[:12]}): put the planned files back, or run the plan again."
        )
    return directory


def _check_snapshot(directory: Path, reference: str, cache_dir: Path) -> None:
    """Raise CheckpointChanged if a file of a hub snapshot differs from its commit."""
    names = loadable_files(directory)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        changed = [
            name
            for name, is_intact in zip(
                names, pool.map(lambda n: _is_intact(directory / n, cache_dir), names), strict=True
            )
            if is_intact is False
        ]
    hashes = {
        name: file_hash(directory / name, cache_dir) for name in names if _blob_name(directory / name) is None
    }
    changed += _changed_files(reference, hashes, cache_dir)
    if changed:
        raise CheckpointChanged(
            f"{directory / changed[0]} is not the file of {reference}: delete {directory.parent.parent} and download it again."
        )


def _blob_name(path: Path) -> str | None:
    """Name of the blob that a cached file links to; None for a plain file (a cache without links)."""
    if not path.is_symlink():
        return None
    name = path.resolve().name
    is_hash = len(name) in _BLOB_HASHES and set(name) <= set("0123456789abcdef")
    return name if is_hash else None


def _is_intact(path: Path, cache_dir: Path) -> bool | None:
    blob = _blob_name(path)
    return (
        None
        if blob is None
        else any(file_hash(path, cache_dir, kind) == blob for kind in _BLOB_HASHES[len(blob)])
    )


def _changed_files(reference: str, hashes: dict[str, str], cache_dir: Path) -> list[str]:
    """Files without a blob name that changed since the first use of this commit, when their hashes were recorded."""
    if not hashes:
        return []
    record_file = cache_dir / "snapshots" / f"{reference.replace('/', '--')}.json"
    try:
        recorded = json.loads(record_file.read_text())
    except FileNotFoundError:
        recorded = {}
    except (OSError, ValueError):
        return []
    if not isinstance(recorded, dict):
        return []
    if hashes.keys() - recorded.keys():
        write_file(record_file, json.dumps({**hashes, **recorded}))
    return [name for name, digest in hashes.items() if recorded.get(name, digest) != digest]
