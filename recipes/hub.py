"""The only door to the hub: one question at a time, each with one answer or one sentence on what to do.

Checkpoints live in `home/hub`, laid out as huggingface_hub lays out its cache; what the user's own cache already holds
whole is used from there. Nothing waits long: the first question has a short time limit and is asked once.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2  # the client that huggingface_hub raises the errors of, and brings along
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
_OTHERS = ("*/*", "consolidated*", "*.gguf", "*.onnx")
"""What repositories hold beside the checkpoint: second copies of it, in folders or in other formats."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")

_TIMEOUT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
T = TypeVar("T")


def commit_of(source: SourceRef, home: Path) -> str:
    """The commit that a repository's revision stands for; without a network, the one it stood for when downloaded."""
    if source.revision and _COMMIT.fullmatch(source.revision):
        return source.revision

    def ask() -> str:
        return str(HfApi().model_info(source.name, revision=source.revision, timeout=_TIMEOUT_S).sha)

    try:
        return _ask(source, ask)
    except CheckpointError as error:
        if is_away(error):
            for cache in _caches(home):
                ref = _folder(cache, source) / "refs" / (source.revision or "main")
                if ref.is_file() and cached(
                    source.model_copy(update={"revision": ref.read_text().strip()}), home
                ):
                    return ref.read_text().strip()
        raise


def small_file(source: SourceRef, file: str, home: Path) -> Path | None:
    """One of the repository's small files, fetched once; null where it has no such file."""
    for cache in _caches(home):
        found = try_to_load_from_cache(source.name, file, cache_dir=cache, revision=source.revision)
        if found is _CACHED_NO_EXIST:
            return None
        if isinstance(found, str):
            return Path(found)
    _knock(source)
    try:
        with _no_progress_bars():
            return Path(_ask(source, lambda: _small_download(source, file, home)))
    except CheckpointError as error:
        if isinstance(error.__cause__, hub_errors.RemoteEntryNotFoundError):
            return None
        raise


def tensors(source: SourceRef) -> tuple[Tensor, ...]:
    """The tensors of a repository, from the headers of its safetensors files; empty where it has none."""
    try:
        with _no_progress_bars():
            found = _ask(
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
        for file, header in found.files_metadata.items()
        for name, info in header.tensors.items()
        if info.dtype in DTYPE_BITS and found.weight_map.get(name, file) == file
    )


def snapshot(source: SourceRef, home: Path, *, allow_pickles: bool, offline: bool) -> Path:
    """The directory of a repository at a commit on this machine, downloaded where it is not whole yet."""
    pinned = source.model_copy(update={"revision": commit_of(source, home)})
    if found := cached(pinned, home, allow_pickles=allow_pickles):
        return found
    if offline:
        raise CheckpointError(
            f"{source} is not on this machine and downloading is off: run once with a network, or give a directory."
        )
    _knock(pinned)
    return Path(_ask(source, lambda: _snapshot(pinned, home / "hub", allow_pickles, local=False)))


def tokenizer_folder(source: SourceRef, home: Path) -> Path | None:
    """The folder of a commit that holds a tokenizer, in one of the caches; its weights need not be there."""
    for cache in _caches(home):
        folder = _folder(cache, source) / "snapshots" / (source.revision or "")
        if source.revision and any((folder / name).exists() for name in _TOKENIZERS):
            return folder
    return None


def cached(source: SourceRef, home: Path, *, allow_pickles: bool = False) -> Path | None:
    """The snapshot of a commit in one of the caches, if it is whole."""
    for cache in _caches(home):
        if not (_folder(cache, source) / "snapshots" / (source.revision or "")).is_dir():
            continue
        try:
            found = Path(_snapshot(source, cache, allow_pickles, local=True))
            # huggingface_hub takes a snapshot whose file list it never saw for whole: one small file makes a snapshot.
            Checkpoint.open(found, allow_pickles=allow_pickles)
            if any((found / name).exists() for name in _TOKENIZERS):
                return found
        except (hub_errors.LocalEntryNotFoundError, CheckpointError):
            continue
    return None


def is_away(error: CheckpointError) -> bool:
    """Whether an error of this module only says that the hub could not be asked."""
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
        ignore_patterns=list(_OTHERS),
        local_files_only=local,
        etag_timeout=_TIMEOUT_S,
    )


def _small_download(source: SourceRef, file: str, home: Path) -> str:
    return hf_hub_download(
        source.name, file, revision=source.revision, cache_dir=home / "hub", etag_timeout=_TIMEOUT_S
    )


@functools.lru_cache(maxsize=1024)
def _knock(source: SourceRef) -> None:
    """Ask the hub once, with a short limit, whether it has this; downloads would try again for half a minute."""
    _ask(source, lambda: HfApi().model_info(source.name, revision=source.revision, timeout=_TIMEOUT_S))


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    was_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not was_off:
            enable_progress_bars()


def _ask(source: SourceRef, ask: Callable[[], T]) -> T:
    """One question to the hub; its errors become one sentence with the step that mends them."""
    try:
        return ask()
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
            f"{source} is no whole checkpoint: a file is missing in its repository."
        ) from error
    except _UNREACHABLE as error:
        raise CheckpointError(
            f"{source} is not a directory here and the hub cannot be reached ({_reason(error)}): check the name and the "
            "network, or download it elsewhere and give its directory."
        ) from error
    except (hub_errors.HfHubHTTPError, httpx2.HTTPError) as error:
        raise CheckpointError(f"The hub refused {source} ({_reason(error)}): try again later.") from error
    except (hub_errors.SafetensorsParsingError, hub_errors.NotASafetensorsRepoError) as error:
        raise CheckpointError(f"{source} has no readable safetensors headers on the hub.") from error
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
