"""Whether the sources of a stage fit together: architecture, shapes, vocabulary, tokenizers, precision."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from recipes.config_facts import ConfigFacts
from recipes.errors import BuildError, CheckpointError
from recipes.layer_config import relayered_config
from recipes.preflight.outputs import WIDTH_BYTES
from recipes.recipe import Stage
from recipes.recipe.depth import is_copy

Configs = Mapping[str, ConfigFacts]

_SHAPES = (
    ("architecture", "architectures"),
    ("hidden_size", "widths"),
    ("intermediate_size", "feed-forward widths"),
    ("heads", "numbers of attention heads"),
    ("kv_heads", "numbers of key-value heads"),
    ("tied", "ways of tying the embeddings"),
    ("quantization", "quantisations"),
)


def misfits(stage: Stage, configs: Configs) -> Iterator[str]:
    """Why the sources of a stage cannot be merged, one sentence each."""
    names = [name for name in dict.fromkeys(str(ref.source) for ref in stage.refs()) if name in configs]
    for one, two in pairwise(names):
        for field, words in _SHAPES:
            mine, theirs = getattr(configs[one], field), getattr(configs[two], field)
            if mine != theirs and (field == "quantization" or None not in (mine, theirs)):
                yield f"{one} and {two} have different {words} ({mine} and {theirs}), so their weights do not fit."
                break
        else:
            yield from _vocabularies(stage, one, two, configs)
    if not is_copy(stage):
        for name in names:
            if configs[name].quantization:
                yield (
                    f"{name} has quantised weights ({configs[name].quantization}), which cannot be merged: "
                    "name the checkpoint that it was made from."
                )


def _vocabularies(stage: Stage, one: str, two: str, configs: Configs) -> Iterator[str]:
    mine, theirs = configs[one].vocab_size, configs[two].vocab_size
    if mine != theirs and stage.tokenizer is None and not (is_copy(stage) and _embeds_alike(stage, configs)):
        yield (
            f"{one} and {two} have vocabularies of {mine:,} and {theirs:,} tokens: add `tokenizer_source` to the recipe."
        )


def _embeds_alike(stage: Stage, configs: Configs) -> bool:
    """In a stack of slices only the first source gives the embedding and only the last one the head."""
    groups = stage.modules[0].groups()
    ends = [stage.base or groups[0].inputs[0].model, groups[0].inputs[0].model, groups[-1].inputs[0].model]
    known = [configs[str(end.source)].vocab_size for end in ends if str(end.source) in configs]
    return len(set(known)) <= 1


def unmovable(stage: Stage, raw: Mapping[str, dict[str, Any]], configs: Configs) -> Iterator[str]:
    """Why the layers of a copying stage cannot be put in this order."""
    if not is_copy(stage) or not stage.modules[0].slices:
        return
    inputs = [group.inputs[0] for group in stage.modules[0].slices]
    if any(str(one.model.source) not in raw for one in inputs):
        return
    pieces = [
        (raw[str(one.model.source)], layer) for one in inputs for layer in range(*(one.layers or (0, 0)))
    ]
    if any(
        layer >= configs[str(one.model.source)].n_layers
        for one in inputs
        for layer in [(one.layers or (0, 1))[1] - 1]
    ):
        return  # said elsewhere
    base = str((stage.base or inputs[0].model).source)
    if base in raw:
        try:
            relayered_config(pieces, raw[base], base)
        except (BuildError, CheckpointError) as error:
            yield str(error)


def conversions(stage: Stage, dtypes: Mapping[str, str | None]) -> Iterator[str]:
    """Where the stage writes weights less exact than they were."""
    wanted = stage.out_dtype or stage.dtype
    for name, dtype in dtypes.items():
        if wanted and dtype and wanted != dtype and WIDTH_BYTES.get(wanted, 0) <= WIDTH_BYTES.get(dtype, 0):
            yield f"{name} is stored as {dtype} and will be rounded to {wanted}."


def tokenizer_differences(
    names: list[str], vocabulary: Callable[[str], dict[str, int] | None]
) -> Iterator[str]:
    """Where sources whose embeddings meet give token ids different meanings."""
    known = {name: found for name in names if (found := vocabulary(name)) is not None}
    for one, two in pairwise(known):
        mine, theirs = known[one], known[two]
        by_id = {number: token for token, number in mine.items()}
        moved = sum(1 for token, number in theirs.items() if by_id.get(number, token) != token)
        if moved:
            yield (
                f"{moved:,} token ids mean different tokens in {one} and {two}: "
                "give the recipe a `tokenizer_source` unless this is meant."
            )


def vocabulary_of(text: bytes) -> dict[str, int] | None:
    """Tokens and their ids in a tokenizer.json; null where it is of another make."""
    try:
        data = json.loads(text)
        stored = data["model"]["vocab"]
        tokens = (
            dict(stored) if isinstance(stored, dict) else {token: i for i, (token, _) in enumerate(stored)}
        )
        return tokens | {added["content"]: added["id"] for added in data.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
