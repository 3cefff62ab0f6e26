"""Store of built checkpoints (artifacts), addressed by the digest of everything that determines them.

    root/<digest>/checkpoint/      the files
    root/<digest>/manifest.json    sizes and sha256 of the files
    root/.building, .leases, .locks, .trash, .hashes     work in progress and caches

An artifact is complete or absent. Processes on several machines may share one root: a build is written to a temporary
directory and renamed into place. Where file locks do not work, two builders may build the same artifact; one is kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock
from pydantic import ValidationError

from recipes.artifact_manifest import (
    CHECKPOINT,
    MANIFEST,
    Artifact,
    ArtifactFile,
    Manifest,
    Pruned,
    sync_directory,
    write_manifest,
)
from recipes.checkpoint_files import loadable_files
from recipes.errors import ArtifactChanged, ArtifactError, BuildError
from recipes.file_hash import FileState, file_sha256
from recipes.lease import Heartbeat, Owner, file_system_time_s, is_owner_alive, keep_touched

_DIGEST = re.compile(r"[0-9a-f]{8,64}")


class ArtifactStore:
    """The artifacts under one root directory."""

    def __init__(self, root: Path):
        self.root = Path(root)

    def lookup(self, digest: str) -> Artifact | None:
        """The artifact, or None unless every file is present in full size; counts as a use."""
        artifact = self._read(_check_digest(digest))
        if artifact is not None:
            with contextlib.suppress(OSError):  # on a read-only mount the time of use cannot be recorded
                os.utime(self.root / digest / MANIFEST)
        return artifact

    def build(self, digest: str, writer: Callable[[Path], None], *, meta: Mapping[str, str]) -> Artifact:
        """The artifact; `writer(directory)` writes it if it does not exist. One process writes, others wait."""
        if artifact := self.lookup(digest):
            return artifact
        try:
            self._create_folders()
            with self._file_lock(f"{digest}.build"):
                if artifact := self.lookup(digest):
                    return artifact
                self._delete_leftovers()
                self._write(digest, writer, meta)
        except OSError as error:
            raise _build_error(error, self.root) from error
        return self._existing(digest)

    def verify(self, digest: str) -> Artifact:
        """Return the artifact after checking that its files are those that were built and that no file was added.

        A file with the recorded size, times and inode is not read again; any other file is hashed. Raises
        ArtifactChanged for the first file that differs.
        """
        artifact = self._existing(digest)
        self.require_intact(artifact)
        return artifact

    def require_intact(self, artifact: Artifact) -> None:
        """Check an artifact that was already read, as `verify` does; does not count as a use."""
        digest = artifact.digest
        names = {file.name for file in artifact.manifest.files}
        added_files = [name for name in loadable_files(artifact.path) if name not in names]
        if added_files:
            raise ArtifactChanged(
                f"{artifact.path / added_files[0]} was not part of what was built: delete {self.root / digest} and build the "
                "recipe again."
            )
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            results = pool.map(
                lambda file: self._is_intact(artifact.path / file.name, file), artifact.manifest.files
            )
        for file, is_intact in zip(artifact.manifest.files, results, strict=True):
            if not is_intact:
                raise ArtifactChanged(
                    f"{artifact.path / file.name} is not what was built (its sha256 differs): "
                    f"delete {self.root / digest} and build the recipe again."
                )

    def _is_intact(self, path: Path, file: ArtifactFile) -> bool:
        try:
            if file.state is not None and FileState.of(path) == file.state:
                return True
        except OSError:
            return False
        return file_sha256(path, self.root / ".hashes") == file.sha256

    @contextmanager
    def lease(self, digest: str) -> Iterator[Artifact]:
        """Context manager that protects the artifact from eviction."""
        with ArtifactLeases(self) as leases:
            yield leases.acquire(digest)

    def write_lease(self, digest: str) -> Path:
        """Write a lease of this process; until the caller deletes it, the artifact is not evicted.

        Raises ArtifactError if there is no complete artifact.
        """
        lease = self.root / ".leases" / Owner.current().new_file_name(_check_digest(digest))
        with self._os_errors_explained():
            self._create_folders()
            with self._file_lock(f"{digest}.use"):
                lease.touch()
                try:
                    self._existing(digest)
                except ArtifactError:
                    lease.unlink(missing_ok=True)
                    raise
        return lease

    def digests(self) -> tuple[str, ...]:
        """Sorted digests of all artifacts under this root, complete or not."""
        return tuple(sorted(path.name for path in self.root.glob("*") if _DIGEST.fullmatch(path.name)))

    def read(self, digest: str) -> Artifact | None:
        """As `lookup`, but does not count as a use."""
        return self._read(_check_digest(digest))

    def list(self) -> tuple[Artifact, ...]:
        """All complete artifacts, least recently used first; does not count as a use."""
        artifacts = (self.read(name) for name in self.digests())
        return tuple(
            sorted(
                (artifact for artifact in artifacts if artifact is not None),
                key=lambda artifact: artifact.last_used_at,
            )
        )

    def prune(self, budget_bytes: int) -> Pruned:
        """Delete the least recently used artifacts that are not leased until the rest fits the budget."""
        evicted: tuple[Artifact, ...] = ()
        leased: tuple[str, ...] = ()
        with self._os_errors_explained():
            self._create_folders()
            self._delete_leftovers()
            artifacts = self.list()
            kept_bytes = sum(artifact.size_bytes for artifact in artifacts)
            for artifact in artifacts:
                if kept_bytes <= budget_bytes:
                    break
                if self._evict_unless_leased(artifact.digest):
                    evicted += (artifact,)
                    kept_bytes -= artifact.size_bytes
                else:
                    leased += (artifact.digest,)
        return Pruned(evicted=evicted, kept_bytes=kept_bytes, leased=leased)

    def evict(self, digest: str) -> bool:
        """Delete one artifact, if it exists; False if it is leased."""
        with self._os_errors_explained():
            self._create_folders()
            return self._evict_unless_leased(_check_digest(digest))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _create_folders(self) -> None:
        for name in (".building", ".leases", ".locks", ".trash"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _file_lock(self, name: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # Some network file systems have no locks; without them a build may only be done twice.
            with contextlib.suppress(NotImplementedError):
                stack.enter_context(FileLock(self.root / ".locks" / name))
            yield

    @contextmanager
    def _os_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactError(f"The artifacts under {self.root} cannot be managed: {error}.") from error

    def _existing(self, digest: str) -> Artifact:
        artifact = self.lookup(digest)
        if artifact is None:
            raise ArtifactError(
                f"There is no complete artifact {digest} under {self.root}: build its recipe again."
            )
        return artifact

    def _read(self, digest: str) -> Artifact | None:
        directory = self.root / digest
        try:
            text = (directory / MANIFEST).read_bytes()
            manifest = Manifest.model_validate_json(text)
            used_at_s = (directory / MANIFEST).stat().st_mtime
            complete = all(
                (directory / CHECKPOINT / file.name).stat().st_size == file.size_bytes
                for file in manifest.files
            )
        except (OSError, ValidationError):
            return None
        if not complete or manifest.digest != digest:
            return None
        used_at = datetime.fromtimestamp(used_at_s, UTC)
        return Artifact(digest=digest, path=directory / CHECKPOINT, manifest=manifest, last_used_at=used_at)

    def _write(self, digest: str, writer: Callable[[Path], None], meta: Mapping[str, str]) -> None:
        temporary = self.root / ".building" / Owner.current().new_file_name(digest)
        try:
            (temporary / CHECKPOINT).mkdir(parents=True)
            with keep_touched(temporary):
                writer(temporary / CHECKPOINT)
                write_manifest(temporary, digest, meta)
            self._publish(temporary, self.root / digest)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _publish(self, temporary: Path, target: Path) -> None:
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            if self._read(target.name) is not None:
                return  # another builder finished first; the lock does not work on this file system
            self._delete_directory(target)  # the existing directory is damaged
            temporary.rename(target)
        sync_directory(target.parent)

    def _delete_directory(self, directory: Path) -> None:
        """Rename a directory into the trash (atomic), then delete it."""
        trash = self.root / ".trash" / uuid.uuid4().hex
        directory.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)

    def _evict_unless_leased(self, digest: str) -> bool:
        with self._file_lock(f"{digest}.use"):
            now_s = self._now_s()
            leases = (self.root / ".leases").glob(f"{digest}.*")
            if any(is_owner_alive(lease, now_s) for lease in leases):
                return False
            with contextlib.suppress(FileNotFoundError):  # another prune deleted it
                self._delete_directory(self.root / digest)
            return True

    def _delete_leftovers(self) -> None:
        """Delete incomplete builds, leases and trash of processes that ended."""
        now_s = self._now_s()
        for path in (*(self.root / ".building").iterdir(), *(self.root / ".leases").iterdir()):
            if not is_owner_alive(path, now_s):
                _remove(path)
        for path in (self.root / ".trash").iterdir():
            _remove(path)

    def _now_s(self) -> float:
        return file_system_time_s(self.root / ".locks" / "clock")


class ArtifactLeases:
    """Leases of this process, kept alive by one heartbeat. Not thread-safe."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._paths: dict[str, Path] = {}
        self._heartbeat = Heartbeat()

    def acquire(self, digest: str) -> Artifact:
        """Lease an artifact; idempotent. Raises ArtifactError if it does not exist."""
        if digest not in self._paths:
            self._paths[digest] = self._store.write_lease(digest)
            self._heartbeat.add(self._paths[digest])
        artifact = self._store.lookup(digest)
        if artifact is None:
            raise ArtifactError(
                f"The artifact {digest} under {self._store.root} was deleted while it was in use: build its recipe again."
            )
        return artifact

    def release(self, digest: str) -> None:
        """End the lease of an artifact; idempotent."""
        path = self._paths.pop(digest, None)
        if path is not None:
            self._heartbeat.remove(path)
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End all leases."""
        for digest in list(self._paths):
            self.release(digest)
        self._heartbeat.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove(path: Path) -> None:
    """Delete a file or directory; tolerates another process that deletes it at the same time."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_digest(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"{digest!r} is not the digest of an artifact (8 to 64 hex digits).")
    return digest


def _build_error(error: OSError, root: Path) -> BuildError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return BuildError(
            f"The disk that holds {root} is full and the build was removed: "
            "free space, run `mergeboard cache prune`, or point MERGEBOARD_HOME elsewhere."
        )
    return BuildError(f"The build under {root} failed: {error}.")
