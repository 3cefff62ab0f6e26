"""Built checkpoints, named by the digest of what determines them; each is whole or is not there.

    root/<digest>/checkpoint/      the files
    root/<digest>/manifest.json    their sizes and sha256
    root/.building, .leases, .locks, .trash, .hashes     what is in progress or saves time; nothing in them counts

Many processes on many machines may share one root: a build is written aside and renamed into place, so even
where locks do not reach, the worst that two builders can do is build twice and keep one.
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
from pydantic import Field, ValidationError

from recipes.checkpoint_files import loadable_files
from recipes.errors import ArtifactChanged, ArtifactError, BuildError
from recipes.file_hash import FileState, file_sha256
from recipes.lease import Heartbeat, Owner, file_system_time_s, is_alive, touched
from recipes.tensor_file import Frozen

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_MANIFEST = "manifest.json"
_CHECKPOINT = "checkpoint"


class ArtifactFile(Frozen):
    """One file of an artifact."""

    name: str = Field(description="Its path inside the checkpoint directory.")
    size_bytes: int = Field(ge=0, description="Its size.")
    sha256: str = Field(description="Its sha256, in hex.")
    state: FileState | None = Field(
        default=None, description="Size, times and inode when it was hashed; null where they were not noted."
    )


class Manifest(Frozen):
    """What an artifact must contain."""

    digest: str = Field(description="Digest of what determines the artifact.")
    files: tuple[ArtifactFile, ...] = Field(description="Every file, by name.")
    meta: dict[str, str] = Field(description="What the builder noted, for people.")
    built_at: datetime = Field(description="When it was published, UTC.")


class Artifact(Frozen):
    """A whole artifact on disk."""

    digest: str = Field(description="Digest of what determines it.")
    path: Path = Field(description="The checkpoint directory.")
    manifest: Manifest = Field(description="Its files and their hashes.")
    last_used_at: datetime = Field(description="When it was last looked up or leased, UTC.")

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size_bytes for file in self.manifest.files)


class Pruned(Frozen):
    """What a prune did."""

    evicted: tuple[Artifact, ...] = Field(
        description="Artifacts that were deleted, least recently used first."
    )
    kept_bytes: int = Field(description="Bytes of the artifacts that are left.")
    leased: tuple[str, ...] = Field(description="Digests that were kept only because they are in use.")


class ArtifactStore:
    """Artifacts under one root directory."""

    def __init__(self, root: Path):
        self.root = Path(root)

    def lookup(self, digest: str) -> Artifact | None:
        """The artifact, if it is there with every file in its full size; counts as a use."""
        artifact = self._read(_checked(digest))
        if artifact is not None:
            with contextlib.suppress(OSError):  # a read-only mount can be used, only not remembered
                os.utime(self.root / digest / _MANIFEST)
        return artifact

    def build(self, digest: str, writer: Callable[[Path], None], *, meta: Mapping[str, str]) -> Artifact:
        """The artifact, written by `writer(directory)` where it is not there yet; one process writes, others wait."""
        if found := self.lookup(digest):
            return found
        try:
            self._prepare()
            with self._locked(f"{digest}.build"):
                if found := self.lookup(digest):
                    return found
                self._clear_dead()
                self._write(digest, writer, meta)
        except OSError as error:
            raise _build_error(error, self.root) from error
        return self._require(digest)

    def verify(self, digest: str) -> Artifact:
        """The artifact, every file of which is what was built and beside which no other file lies.

        A file whose size, times and inode are those of the build is not read again; any other one is hashed. Raises
        ArtifactChanged for the first file that differs.
        """
        artifact = self._require(digest)
        self.require_intact(artifact)
        return artifact

    def require_intact(self, artifact: Artifact) -> None:
        """As `verify`, of an artifact that was read before; does not count as a use."""
        digest = artifact.digest
        names = {file.name for file in artifact.manifest.files}
        foreign = [name for name in loadable_files(artifact.path) if name not in names]
        if foreign:
            raise ArtifactChanged(
                f"{artifact.path / foreign[0]} was not part of what was built: delete {self.root / digest} and build the "
                "recipe again."
            )
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            intact = pool.map(
                lambda file: self._is_intact(artifact.path / file.name, file), artifact.manifest.files
            )
        for file, same in zip(artifact.manifest.files, intact, strict=True):
            if not same:
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
        """Keep the artifact from being evicted while the block runs."""
        with ArtifactLeases(self) as leases:
            yield leases.take(digest)

    def hold(self, digest: str) -> Path:
        """Write a lease of this process, before which no artifact of this digest is evicted; the caller deletes it.

        Raises ArtifactError where there is no whole artifact.
        """
        lease = self.root / ".leases" / Owner.me().name(_checked(digest))
        with self._explained():
            self._prepare()
            with self._locked(f"{digest}.use"):
                lease.touch()
                try:
                    self._require(digest)
                except ArtifactError:
                    lease.unlink(missing_ok=True)
                    raise
        return lease

    def digests(self) -> tuple[str, ...]:
        """Digests of all artifacts that lie here, whole or not, in order."""
        return tuple(sorted(path.name for path in self.root.glob("*") if _DIGEST.fullmatch(path.name)))

    def read(self, digest: str) -> Artifact | None:
        """The artifact, if it is there with every file in its full size; does not count as a use."""
        return self._read(_checked(digest))

    def list(self) -> tuple[Artifact, ...]:
        """All whole artifacts, least recently used first; does not count as a use."""
        found = (self.read(name) for name in self.digests())
        return tuple(sorted((a for a in found if a is not None), key=lambda a: a.last_used_at))

    def prune(self, budget_bytes: int) -> Pruned:
        """Delete what was used longest ago, never what is leased, until all that is left fits the budget."""
        evicted: tuple[Artifact, ...] = ()
        leased: tuple[str, ...] = ()
        with self._explained():
            self._prepare()
            self._clear_dead()
            artifacts = self.list()
            kept_bytes = sum(artifact.size_bytes for artifact in artifacts)
            for artifact in artifacts:
                if kept_bytes <= budget_bytes:
                    break
                if self._evict(artifact.digest):
                    evicted += (artifact,)
                    kept_bytes -= artifact.size_bytes
                else:
                    leased += (artifact.digest,)
        return Pruned(evicted=evicted, kept_bytes=kept_bytes, leased=leased)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        for name in (".building", ".leases", ".locks", ".trash"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # Some network file systems have no locks; nothing here is wrong without them, only slower.
            with contextlib.suppress(NotImplementedError):
                stack.enter_context(FileLock(self.root / ".locks" / name))
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactError(f"The artifacts under {self.root} cannot be managed: {error}.") from error

    def _require(self, digest: str) -> Artifact:
        artifact = self.lookup(digest)
        if artifact is None:
            raise ArtifactError(
                f"There is no whole artifact {digest} under {self.root}: build its recipe again."
            )
        return artifact

    def _read(self, digest: str) -> Artifact | None:
        directory = self.root / digest
        try:
            text = (directory / _MANIFEST).read_bytes()
            manifest = Manifest.model_validate_json(text)
            used_s = (directory / _MANIFEST).stat().st_mtime
            whole = all(
                (directory / _CHECKPOINT / f.name).stat().st_size == f.size_bytes for f in manifest.files
            )
        except (OSError, ValidationError):
            return None
        if not whole or manifest.digest != digest:
            return None
        used_at = datetime.fromtimestamp(used_s, UTC)
        return Artifact(digest=digest, path=directory / _CHECKPOINT, manifest=manifest, last_used_at=used_at)

    def _write(self, digest: str, writer: Callable[[Path], None], meta: Mapping[str, str]) -> None:
        aside = self.root / ".building" / Owner.me().name(digest)
        try:
            (aside / _CHECKPOINT).mkdir(parents=True)
            with touched(aside):
                writer(aside / _CHECKPOINT)
                _seal(aside, digest, meta)
            self._publish(aside, self.root / digest)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _publish(self, aside: Path, target: Path) -> None:
        try:
            aside.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            if self._read(target.name) is not None:
                return  # another builder, whom the lock did not reach, was first
            self._discard(target)  # what is there is damaged
            aside.rename(target)
        _sync_directory(target.parent)

    def _discard(self, directory: Path) -> None:
        """Take a directory away in one step, then delete it."""
        trash = self.root / ".trash" / uuid.uuid4().hex
        directory.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)

    def _evict(self, digest: str) -> bool:
        with self._locked(f"{digest}.use"):
            now_s = self._now_s()
            leases = (self.root / ".leases").glob(f"{digest}.*")
            if any(is_alive(lease, now_s) for lease in leases):
                return False
            with contextlib.suppress(FileNotFoundError):  # another prune was first
                self._discard(self.root / digest)
            return True

    def _clear_dead(self) -> None:
        """Delete what dead processes left: half-written builds, leases, trash."""
        now_s = self._now_s()
        for path in (*(self.root / ".building").iterdir(), *(self.root / ".leases").iterdir()):
            if not is_alive(path, now_s):
                _remove(path)
        for path in (self.root / ".trash").iterdir():
            _remove(path)

    def _now_s(self) -> float:
        return file_system_time_s(self.root / ".locks" / "clock")


class ArtifactLeases:
    """Artifacts that this process keeps from being evicted, one heartbeat for all of them. Not for several threads."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._paths: dict[str, Path] = {}
        self._heart = Heartbeat()

    def take(self, digest: str) -> Artifact:
        """Keep this artifact; idempotent. Raises ArtifactError where it is not there."""
        if digest not in self._paths:
            self._paths[digest] = self._store.hold(digest)
            self._heart.touch(self._paths[digest])
        artifact = self._store.lookup(digest)
        if artifact is None:
            raise ArtifactError(
                f"The artifact {digest} under {self._store.root} was deleted while it was in use: build its recipe again."
            )
        return artifact

    def give_up(self, digest: str) -> None:
        """Let this artifact be evicted; idempotent."""
        path = self._paths.pop(digest, None)
        if path is not None:
            self._heart.leave(path)
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let all of them be evicted."""
        for digest in list(self._paths):
            self.give_up(digest)
        self._heart.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove(path: Path) -> None:
    """Delete a file or directory that another process may be deleting too."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"{digest!r} is not the digest of an artifact (8 to 64 hex digits).")
    return digest


def _seal(aside: Path, digest: str, meta: Mapping[str, str]) -> None:
    """Write the manifest; everything is on the disk itself before it counts."""
    checkpoint = aside / _CHECKPOINT
    paths = sorted(path for path in checkpoint.rglob("*") if not path.is_dir())
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise BuildError(
                f"The build made {path.name}, which is not a plain file: no artifact can hold it."
            )
    if not paths:
        raise BuildError(f"The build of {digest} wrote no file.")
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        files = tuple(pool.map(lambda path: _sealed_file(checkpoint, path), paths))
    manifest = Manifest(digest=digest, files=files, meta=dict(meta), built_at=datetime.now(UTC))
    with (aside / _MANIFEST).open("w") as stream:
        stream.write(manifest.model_dump_json(indent=1))
        stream.flush()
        os.fsync(stream.fileno())
    for directory in (*(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint, aside):
        _sync_directory(directory)


def _sealed_file(checkpoint: Path, path: Path) -> ArtifactFile:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    state = FileState.of(path)
    return ArtifactFile(
        name=path.relative_to(checkpoint).as_posix(),
        size_bytes=state.size,
        sha256=file_sha256(path),
        state=state,
    )


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _build_error(error: OSError, root: Path) -> BuildError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return BuildError(
            f"The disk that holds {root} is full and the build was removed: "
            "free space, run `mergeboard cache prune`, or point MERGEBOARD_HOME elsewhere."
        )
    return BuildError(f"The build under {root} failed: {error}.")
