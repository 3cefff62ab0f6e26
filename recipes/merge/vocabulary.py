"""Whether a stage that sets a tokenizer keeps its sources' vocabulary, so that no row of an embedding moves.

Such a stage has the tensors of the stage without `tokenizer`: mergekit copies every row to its own place. Its tokenizer is the sources' own,
written anew by transformers.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from recipes.outside_file import parse_json
from recipes.recipe import Stage
from recipes.relayer import COPIED_FILES

TOKENIZER_FILES = tuple(file for file in COPIED_FILES if file != "generation_config.json")
"""Files that decide about a tokenizer and its chat template."""


def token_count(tokenizer: bytes) -> int | None:
    """Number of tokens of a tokenizer.json; None unless they are numbered from 0 without a gap."""
    try:
        content = parse_json(tokenizer)
    except ValueError:
        return None
    model = content.get("model") if isinstance(content, Mapping) else None
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    added = content.get("added_tokens") if isinstance(content, Mapping) else None
    if not isinstance(vocabulary, Mapping):
        return None
    added_ids = [token.get("id") for token in added or () if isinstance(token, Mapping)]
    ids = {number for number in (*vocabulary.values(), *added_ids) if isinstance(number, int)}
    return len(ids) if ids == set(range(len(ids))) else None


def vocabulary_obstacle(stage: Stage, dtypes: Sequence[str | None]) -> str | None:
    """What in the stage itself keeps rows from staying in place; None if the tokenizers decide. `dtypes` are its sources'."""
    rule = stage.tokenizer
    if rule is None:
        return None
    if rule.tokens or rule.pad_to_multiple_of:
        return "it changes the vocabulary, which the build writes"
    if stage.method_spec.random:
        return "it sets a tokenizer, with which mergekit draws random numbers in another order"
    if stage.dtype is None and len(set(dtypes)) > 1:
        return "it sets a tokenizer, and its sources have several dtypes"
    return None


def keeps_vocabulary(stage: Stage, sources: Mapping[Path, int | None], dtypes: Sequence[str | None]) -> bool:
    """Whether no row moves; `sources` maps the directories of the stage's sources to their vocabulary sizes."""
    if vocabulary_obstacle(stage, dtypes) is not None:
        return False
    digests = {_digests(path, _states(path)) for path in sources}
    counts = {_count(path, _states(path)) for path in sources}
    return len(digests) == 1 and counts == set(sources.values()) and None not in counts


_States = tuple[tuple[int, int, int] | None, ...]


def _states(directory: Path) -> _States:
    """Identity of the tokenizer's files."""
    return tuple(_state(directory / file) for file in TOKENIZER_FILES)


def _state(file: Path) -> tuple[int, int, int] | None:
    if not file.is_file():
        return None
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _digests(directory: Path, _states: _States) -> tuple[str | None, ...]:
    files = [directory / file for file in TOKENIZER_FILES]
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None for file in files)


@functools.lru_cache(maxsize=256)
def _count(directory: Path, _states: _States) -> int | None:
    file = directory / "tokenizer.json"
    return token_count(file.read_bytes()) if file.is_file() else None
