"""All access to the Hugging Face hub; every error becomes a CheckpointError with the next step.

Checkpoints are stored in `home/hub` in the layout of huggingface_hub's cache; complete snapshots in the user's cache are
used from there. The first request to a repository has a short timeout and is not retried.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2  # HTTP client of huggingface_hub, whose errors it raises
from huggingface_hub import (
    _CACHED_NO_EXIST,
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from recipes.checkpoint import Checkpoint
from recipes.errors import CheckpointError
from recipes.recipe.refs import SourceRef
from recipes.tensor_file import DTYPE_BITS, Tensor

_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
_PICKLES = ("*.bin", "*.pt", "*.pth")
_IGNORED_FILES = ("*/*", "consolidated*", "*.gguf", "*.onnx")
"""Ignored files: copies of the checkpoint in subfolders or in other formats."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")

_TIMEOUT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
T = TypeVar("T")


def commit_of(source: SourceRef, home: Path) -> str:
    """Resolve a revision to a commit; without a network, to the commit at the time of the download."""
    if source.revision and _COMMIT.fullmatch(source.revision):
        return source.revision

    def request_commit() -> str:
        return str(HfApi().model_info(source.name, revision=source.revision, timeout=_TIMEOUT_S).sha)

    try:
        return _call_hub(source, request_commit)
    except CheckpointError as error:
        if is_unreachable(error):
            for cache in _caches(home):
                ref = _folder(cache, source) / "refs" / (source.revision or "main")
                if ref.is_file() and cached(
                    source.model_copy(update={"revision": ref.read_text().strip()}), home
                ):
                    return ref.read_text().strip()
        raise


def small_file(source: SourceRef, file: str, home: Path) -> Path | None:
    """Path of a small file of a repository, downloaded once; None if the repository does not have it."""
    for cache in _caches(home):
        cached_file = try_to_load_from_cache(source.name, file, cache_dir=cache, revision=source.revision)
        if cached_file is _CACHED_NO_EXIST:
            return None
        if isinstance(cached_file, str):
            return Path(cached_file)
    _check_reachable(source)
    try:
        with _no_progress_bars():
            return Path(_call_hub(source, lambda: _small_download(source, file, home)))
    except CheckpointError as error:
        if isinstance(error.__cause__, hub_errors.RemoteEntryNotFoundError):
            return None
        raise


def tensors(source: SourceRef) -> tuple[Tensor, ...]:
    """Tensors of a repository, from its safetensors headers; empty if it has no safetensors."""
    try:
        with _no_progress_bars():
            metadata = _call_hub(
                source,
                lambda: HfApi().get_safetensors_metadata(
                    source.name, revision=source.revision, timeout=_TIMEOUT_S
                ),
            )
    except CheckpointError as error:
        if isinstance(error.__cause__, hub_errors.NotASafetensorsRepoError):
            return ()
        raise
    return tuple(
        Tensor(
            name=name,
            dtype=info.dtype,
            shape=tuple(info.shape),
            file=file,
            start=info.data_offsets[0],
            size_bytes=info.data_offsets[1] - info.data_offsets[0],
        )
        for file, header in metadata.files_metadata.items()
        for name, info in header.tensors.items()
        if info.dtype in DTYPE_BITS and metadata.weight_map.get(name, file) == file
    )


def snapshot(source: SourceRef, home: Path, *, allow_pickles: bool, offline: bool) -> Path:
    """Local directory of a repository at a commit, downloaded if it is missing or incomplete."""
    pinned = source.model_copy(update={"revision": commit_of(source, home)})
    if directory := cached(pinned, home, allow_pickles=allow_pickles):
        return directory
    if offline:
        raise CheckpointError(
            f"{source} is not on this machine and downloading is off: run once with a network, or give a directory."
        )
    _check_reachable(pinned)
    return Path(_call_hub(source, lambda: _snapshot(pinned, home / "hub", allow_pickles, local=False)))


def tokenizer_folder(source: SourceRef, home: Path) -> Path | None:
    """Cached folder of a commit that holds a tokenizer, with or without weights; None if there is none."""
    for cache in _caches(home):
        folder = _folder(cache, source) / "snapshots" / (source.revision or "")
        if source.revision and any((folder / name).exists() for name in _TOKENIZERS):
            return folder
    return None


def cached(source: SourceRef, home: Path, *, allow_pickles: bool = False) -> Path | None:
    """Complete snapshot of a commit in one of the caches, or None."""
    for cache in _caches(home):
        if not (_folder(cache, source) / "snapshots" / (source.revision or "")).is_dir():
            continue
        try:
            directory = Path(_snapshot(source, cache, allow_pickles, local=True))
            # huggingface_hub accepts incomplete snapshots if it never saw the file list.
            Checkpoint.open(directory, allow_pickles=allow_pickles)
            if any((directory / name).exists() for name in _TOKENIZERS):
                return directory
        except (hub_errors.LocalEntryNotFoundError, CheckpointError):
            continue
    return None


def is_unreachable(error: CheckpointError) -> bool:
    """Whether an error of this module means that the hub cannot be reached."""
    return isinstance(error.__cause__, _UNREACHABLE)


# --- inside ---------------------------------------------------------------------------------------------------------

_UNREACHABLE = (httpx2.TransportError, hub_errors.OfflineModeIsEnabled, hub_errors.LocalEntryNotFoundError)


def _caches(home: Path) -> tuple[Path, ...]:
    return (home / "hub", Path(constants.HF_HUB_CACHE))


def _folder(cache: Path, source: SourceRef) -> Path:
    return cache / ("models--" + source.name.replace("/", "--"))


def _snapshot(source: SourceRef, cache: Path, allow_pickles: bool, *, local: bool) -> str:
    return snapshot_download(
        source.name,
        revision=source.revision,
        cache_dir=cache,
        allow_patterns=[*_FILES, *(_PICKLES if allow_pickles else ())],
        ignore_patterns=list(_IGNORED_FILES),
        local_files_only=local,
        etag_timeout=_TIMEOUT_S,
    )


def _small_download(source: SourceRef, file: str, home: Path) -> str:
    return hf_hub_download(
        source.name, file, revision=source.revision, cache_dir=home / "hub", etag_timeout=_TIMEOUT_S
    )


@functools.lru_cache(maxsize=1024)
def _check_reachable(source: SourceRef) -> None:
    """Send one request with a short timeout: downloads would retry for half a minute."""
    _call_hub(source, lambda: HfApi().model_info(source.name, revision=source.revision, timeout=_TIMEOUT_S))


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    was_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_off:
            enable_progress_bars()


def _call_hub(source: SourceRef, request: Callable[[], T]) -> T:
    """Send a request; convert errors of the hub into CheckpointErrors with the next step."""
    try:
        return request()
    except hub_errors.GatedRepoError as error:
        raise CheckpointError(
            f"{source} is gated: accept its terms at {constants.ENDPOINT}/{source.name} and set HF_TOKEN to a token of "
            "that account."
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        private = "" if os.environ.get("HF_TOKEN") else "; for a private one set HF_TOKEN"
        raise CheckpointError(
            f"{source.name} is neither a directory here nor a repository of the hub: check the name{private}."
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise CheckpointError(
            f"{source.name} has no revision {source.revision}: check the commit, tag or branch."
        ) from error
    except hub_errors.RemoteEntryNotFoundError as error:
        raise CheckpointError(
            f"{source} is not a complete checkpoint: its repository lacks a file."
        ) from error
    except _UNREACHABLE as error:
        raise CheckpointError(
            f"{source} is not a directory here and the hub cannot be reached ({_reason(error)}): check the name and the "
            "network, or download it elsewhere and give its directory."
        ) from error
    except (hub_errors.HfHubHTTPError, httpx2.HTTPError) as error:
        raise CheckpointError(f"The hub refused {source} ({_reason(error)}): try again later.") from error
    except (hub_errors.SafetensorsParsingError, hub_errors.NotASafetensorsRepoError) as error:
        raise CheckpointError(
            f"{source} has no readable safetensors headers on the hub: use a copy with intact files."
        ) from error
    except hub_errors.HFValidationError as error:
        raise CheckpointError(
            f"{source.name} cannot be the name of a repository: write org/name@revision."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{source} cannot be downloaded ({_reason(error)}): free space, or point MERGEBOARD_HOME elsewhere."
        ) from error


def _reason(error: Exception) -> str:
    root = error.__cause__ or error
    text = str(root).strip().splitlines()
    return (text[0][:120] if text else "") or type(root).__name__
