"""Compatibility of the sources of a stage: architecture, shapes, vocabulary, tokenizers, precision."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from recipes.config_facts import ConfigFacts
from recipes.errors import BuildError, CheckpointError
from recipes.layer_config import relayered_config
from recipes.layer_order import order_obstacle
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


def incompatibilities(stage: Stage, configs: Configs) -> Iterator[str]:
    """Reasons why the sources of a stage cannot be merged, one sentence each."""
    names = [name for name in dict.fromkeys(str(ref.source) for ref in stage.refs()) if name in configs]
    for first, second in pairwise(names):
        for field, words in _SHAPES:
            first_value, second_value = getattr(configs[first], field), getattr(configs[second], field)
            if first_value != second_value and (
                field == "quantization" or None not in (first_value, second_value)
            ):
                yield f"{first} and {second} have different {words} ({first_value} and {second_value}), so their weights do not fit."
                break
        else:
            yield from _vocabulary_problems(stage, first, second, configs)
    if not is_copy(stage):
        for name in names:
            if configs[name].quantization:
                yield (
                    f"{name} has quantised weights ({configs[name].quantization}), which cannot be merged: "
                    "name the checkpoint that it was made from."
                )


def _vocabulary_problems(stage: Stage, first: str, second: str, configs: Configs) -> Iterator[str]:
    first_size, second_size = configs[first].vocab_size, configs[second].vocab_size
    if (
        first_size != second_size
        and stage.tokenizer is None
        and not (is_copy(stage) and _equal_embeddings(stage, configs))
    ):
        yield (
            f"{first} and {second} have vocabularies of {first_size:,} and {second_size:,} tokens: add `tokenizer_source` to the recipe."
        )


def _equal_embeddings(stage: Stage, configs: Configs) -> bool:
    """Whether the sources of embedding and head (first, last and base of a stack) have equal vocabularies."""
    groups = stage.modules[0].groups()
    models = [stage.base or groups[0].inputs[0].model, groups[0].inputs[0].model, groups[-1].inputs[0].model]
    sizes = [configs[str(model.source)].vocab_size for model in models if str(model.source) in configs]
    return len(set(sizes)) <= 1


def layer_order_problems(
    stage: Stage,
    raw_configs: Mapping[str, dict[str, Any]],
    configs: Configs,
    tensor_names: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Reasons why the layers of a copying stage cannot be reordered. `tensor_names` has those of the sources whose headers were read."""
    if not is_copy(stage) or not stage.modules[0].slices:
        return
    inputs = [group.inputs[0] for group in stage.modules[0].slices]
    if any(str(input_.model.source) not in raw_configs for input_ in inputs):
        return
    origins = [
        (raw_configs[str(input_.model.source)], layer)
        for input_ in inputs
        for layer in range(*(input_.layers or (0, 0)))
    ]
    if any(
        layer >= configs[str(input_.model.source)].n_layers
        for input_ in inputs
        for layer in [(input_.layers or (0, 1))[1] - 1]
    ):
        return  # reported by `stage_layers`
    base = str((stage.base or inputs[0].model).source)
    if base in raw_configs:
        names = [str(input_.model.source) for input_ in inputs]
        if len(set(names)) == 1 and names[0] == base:
            layers = [layer for _, layer in origins]
            obstacle = order_obstacle(raw_configs[base], tensor_names.get(base, ()), layers, base)
            yield from () if obstacle is None else (obstacle,)
            return
        try:
            relayered_config(origins, raw_configs[base], base)
        except (BuildError, CheckpointError) as error:
            yield str(error)


def rounding_remarks(stage: Stage, dtypes: Mapping[str, str | None]) -> Iterator[str]:
    """Sources whose weights the stage rounds, one sentence each."""
    target = stage.out_dtype or stage.dtype
    for name, dtype in dtypes.items():
        if target and dtype and target != dtype and WIDTH_BYTES.get(target, 0) <= WIDTH_BYTES.get(dtype, 0):
            yield f"{name} is stored as {dtype} and will be rounded to {target}."


def tokenizer_differences(
    names: list[str], vocabulary: Callable[[str], dict[str, int] | None]
) -> Iterator[str]:
    """Pairs of sources whose tokenizers assign different tokens to the same ids, one sentence each."""
    vocabularies = {name: tokens for name in names if (tokens := vocabulary(name)) is not None}
    for first, second in pairwise(vocabularies):
        first_ids, second_ids = vocabularies[first], vocabularies[second]
        by_id = {number: token for token, number in first_ids.items()}
        different = sum(1 for token, number in second_ids.items() if by_id.get(number, token) != token)
        if different:
            yield (
                f"{different:,} token ids mean different tokens in {first} and {second}: "
                "give the recipe a `tokenizer_source` unless this is meant."
            )


def vocabulary_of(text: bytes) -> dict[str, int] | None:
    """Tokens and ids of a tokenizer.json; None if it has another format."""
    try:
        data = json.loads(text)
        stored = data["model"]["vocab"]
        tokens = (
            dict(stored) if isinstance(stored, dict) else {token: i for i, (token, _) in enumerate(stored)}
        )
        return tokens | {added["content"]: added["id"] for added in data.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
