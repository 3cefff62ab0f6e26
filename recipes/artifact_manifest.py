"""Records of an artifact on disk, and how its manifest is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from recipes.errors import BuildError
from recipes.file_hash import FileState, file_sha256
from recipes.tensor_file import Frozen

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint"


class ArtifactFile(Frozen):
    """One file of an artifact."""

    name: str = Field(description="Path relative to the checkpoint directory.")
    size_bytes: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(description="sha256 in hex.")
    state: FileState | None = Field(
        default=None, description="Size, times and inode when the file was hashed; null where not recorded."
    )


class Manifest(Frozen):
    """List of an artifact's files, with their hashes."""

    digest: str = Field(description="Digest of what determines the artifact.")
    files: tuple[ArtifactFile, ...] = Field(description="All files, sorted by name.")
    meta: dict[str, str] = Field(description="Notes of the builder, for people.")
    built_at: datetime = Field(description="Time of publication, UTC.")


class Artifact(Frozen):
    """A complete artifact on disk."""

    digest: str = Field(description="Digest of what determines it.")
    path: Path = Field(description="The checkpoint directory.")
    manifest: Manifest = Field(description="Files and their hashes.")
    last_used_at: datetime = Field(description="Time of the last lookup or lease, UTC.")

    @property
    def size_bytes(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size_bytes for file in self.manifest.files)


class Pruned(Frozen):
    """Result of a prune."""

    evicted: tuple[Artifact, ...] = Field(description="Deleted artifacts, least recently used first.")
    kept_bytes: int = Field(description="Size in bytes of the artifacts that remain.")
    leased: tuple[str, ...] = Field(
        description="Digests of artifacts that were kept because they are in use."
    )


def write_manifest(temporary: Path, digest: str, meta: Mapping[str, str]) -> None:
    """Write the manifest and fsync files and directories, so that a published artifact survives a power failure."""
    checkpoint = temporary / CHECKPOINT
    paths = sorted(path for path in checkpoint.rglob("*") if not path.is_dir())
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise BuildError(
                f"The build wrote {path.name}, which is not a regular file: artifacts only hold regular files."
            )
    if not paths:
        raise BuildError(f"The build of {digest} wrote no file.")
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        files = tuple(pool.map(lambda path: _manifest_entry(checkpoint, path), paths))
    manifest = Manifest(digest=digest, files=files, meta=dict(meta), built_at=datetime.now(UTC))
    with (temporary / MANIFEST).open("w") as stream:
        stream.write(manifest.model_dump_json(indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    for directory in (*(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint, temporary):
        sync_directory(directory)


def _manifest_entry(checkpoint: Path, path: Path) -> ArtifactFile:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    state = FileState.of(path)
    return ArtifactFile(
        name=path.relative_to(checkpoint).as_posix(),
        size_bytes=state.size,
        sha256=file_sha256(path),
        state=state,
    )


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
