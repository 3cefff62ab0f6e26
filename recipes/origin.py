"""The record of what a built checkpoint was made from, kept beside its weights as `mergeboard_origin.json`.

Loaders do not open the file, and digests of checkpoints leave it out: a copy without it has the same identity. With it, a
checkpoint that is evaluated later keeps what its sources say about it, for example that they were converted from quantised weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from recipes.atomic_file import write_file
from recipes.checkpoint_files import ORIGIN_NAME
from recipes.config_facts import read_config
from recipes.demo import DEMO_NAMES, WEIGHTS_FROM
from recipes.errors import CheckpointError
from recipes.outside_file import parse_json, read_file
from recipes.tensor_file import Frozen

_MAX_BYTES = 1_000_000
_MAX_SOURCES = 500


class MadeFrom(Frozen):
    """One checkpoint that another was made from, directly or through others."""

    name: str = Field(
        max_length=500, description="`repo@commit`, an embedded name, or the last part of a directory."
    )
    weights_digest: str = Field(
        max_length=500, description="Hash of its weights and config, or `repo@commit` on the hub."
    )
    quantization: str | None = Field(
        default=None,
        max_length=100,
        description="Quantisation of the weights that it was converted from; null if none is known.",
    )


class Origin(Frozen):
    """What a built checkpoint was made from."""

    format: Literal[1] = Field(default=1, description="Version of this record.")
    recipe_digest: str = Field(max_length=500, description="Digest of the recipe over its sources' weights.")
    made_from: tuple[MadeFrom, ...] = Field(
        max_length=_MAX_SOURCES, description="The sources of the recipe, then what those were made from."
    )
    chat_template_from: str | None = Field(
        default=None,
        max_length=500,
        description="Name of the first source with the same chat template; null if none has it.",
    )
    chat_template_sha256: str | None = Field(
        default=None, max_length=64, description="sha256 of the chat template's text; null without one."
    )


def source_name(reference: str) -> str:
    """Name of a source in records that travel: the last part of a directory, else the reference itself."""
    return Path(reference).name if Path(reference).is_absolute() else reference


def source_entry(reference: str, weights_digest: str) -> MadeFrom:
    """The entry of one source, by its reference for `resolve`."""
    quantization = WEIGHTS_FROM if reference in DEMO_NAMES else None
    return MadeFrom(
        name=source_name(reference)[-500:], weights_digest=weights_digest, quantization=quantization
    )


def joined(entries: Iterable[MadeFrom]) -> tuple[MadeFrom, ...]:
    """Entries in order, each once, up to the limit of a record."""
    return tuple(dict.fromkeys(entries))[:_MAX_SOURCES]


def write_origin(checkpoint: Path, recipe_digest: str, sources: Mapping[str, tuple[str, Path]]) -> None:
    """Write the record of a checkpoint just built; `sources` maps references to weights digest and directory."""
    direct = [source_entry(reference, digest) for reference, (digest, _) in sources.items()]
    earlier = [entry for _, folder in sources.values() for entry in read_origin(folder)]
    template = _chat_template(checkpoint)
    same = (
        source_name(reference)
        for reference, (_, folder) in sources.items()
        if template is not None and _chat_template(folder) == template
    )
    record = Origin(
        recipe_digest=recipe_digest,
        made_from=joined([*direct, *earlier]),
        chat_template_from=next(same, None),
        chat_template_sha256=None if template is None else hashlib.sha256(template.encode()).hexdigest(),
    )
    write_file(checkpoint / ORIGIN_NAME, record.model_dump_json(indent=1) + "\n")


def read_origin(directory: Path) -> tuple[MadeFrom, ...]:
    """What a checkpoint directory was made from; empty without a record. Raises CheckpointError."""
    path = directory / ORIGIN_NAME
    try:
        return parse_origin(read_file(path, _MAX_BYTES), str(path))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


def parse_origin(data: bytes, where: str) -> tuple[MadeFrom, ...]:
    """The sources that a record names. Raises CheckpointError for anything but a record of this format."""
    try:
        return Origin.model_validate(parse_json(data)).made_from
    except (ValueError, ValidationError):
        raise CheckpointError(
            f"{where} is no record of this version of mergeboard: build the checkpoint again, or delete the file, after which "
            "what it was made from is unknown."
        ) from None


def converted_from(entries: Iterable[MadeFrom]) -> str | None:
    """Quantisation of the weights that any of the sources was converted from; None if none is known."""
    methods = sorted({entry.quantization for entry in entries if entry.quantization})
    return ", ".join(methods) or None


def _chat_template(directory: Path) -> str | None:
    """Text of the chat template as the tokenizer loads it; several templates as their JSON."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return read_file(file, _MAX_BYTES).decode("utf-8", "replace")
    config = directory / "tokenizer_config.json"
    template = read_config(config).get("chat_template") if config.is_file() else None
    return template if isinstance(template, str) or template is None else json.dumps(template)
