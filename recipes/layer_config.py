"""What a layer path does to config.json: the layer count, and every setting that belongs to single layers.

Three kinds of such settings exist. Lists with one entry per layer follow the path. Lists of layer indices are
counted anew. Rules ("every fourth layer ...") cannot follow a path: they are written out as lists where transformers
itself writes them out, and refused by name where it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recipes.config_facts import TEXT_CONFIG_KEYS, layer_count_key, text_config
from recipes.errors import BuildError

Json = Mapping[str, Any]

_UNIFORM = frozenset({
    "apertus", "arcee", "baichuan", "exaone", "falcon", "gemma", "glm", "glm4", "gpt2", "gptj",
    "gpt_bigcode", "gpt_neox", "granite", "helium", "internlm2", "llama", "mistral", "mixtral", "mpt",
    "nemotron", "olmo", "olmo2", "olmoe", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen", "qwen2",
    "qwen3", "seed_oss", "stablelm", "starcoder2",
})  # fmt: skip
"""Model types whose layers are all alike but for what their config says; others are asked about at transformers."""

_NOT_PER_LAYER = re.compile(r"^(architectures|.*_token_ids?|.*_tokens|keys_to_ignore.*)$")
_PER_LAYER_TEXT = ("hybrid_override_pattern",)
_INDEX_LISTS = (
    "mlp_only_layers",
    "moe_layers",
    "full_attn_idxs",
    "attn_layer_indices",
    "cross_attention_layers",
    "global_attn_layers",
    "ple_layer_ids",
)

_RULES = {
    "decoder_sparse_step": 1,
    "first_k_dense_replace": 0,
    "num_dense_layers": 0,
    "n_dense_layers": 0,
    "moe_layer_freq": 1,
    "moe_layer_interval": 1,
    "moe_layer_start_index": 0,
    "interleave_moe_layer_step": 1,
    "expert_layer_period": 1,
    "attn_layer_period": 1,
    "full_attention_interval": 1,
    "global_attn_every_n_layers": 1,
    "sliding_window_pattern": 1,
    "_sliding_window_pattern": 1,
    "no_rope_layer_interval": 0,
    "cross_attention_frequency": 0,
    "layer_group_size": 1,
    "num_kv_shared_layers": 0,
    "num_nextn_predict_layers": 0,
    "num_mtp_layers": 0,
    "scale_attn_by_inverse_layer_idx": 0,
}
"""Settings that give a layer its part by its index, with the value that makes all layers alike."""

_WRITTEN_OUT = {
    "full_attention_interval": "layer_types",
    "global_attn_every_n_layers": "layer_types",
    "sliding_window_pattern": "layer_types",
    "_sliding_window_pattern": "layer_types",
    "attn_layer_period": "layers_block_type",
    "no_rope_layer_interval": "no_rope_layers",
    "interleave_moe_layer_step": "moe_layers",
    "layer_group_size": "layer_types",
}
"""Rules that every loader ignores where this list is there."""


def relayered_config(pieces: Sequence[tuple[Json, int]], base: Json, where: str) -> dict[str, Any]:
    """The config of a checkpoint whose layer k is layer `pieces[k][1]` of the checkpoint with config `pieces[k][0]`.

    Everything that does not belong to a layer comes from `base`. Raises BuildError, with the setting's name, where a
    setting cannot follow.
    """
    key = layer_count_key(base, where)
    text = dict(text_config(base))
    moved = not _is_whole(pieces, text[key])
    explicit = {id(config): _explicit(text_config(config), where) if moved else {} for config, _ in pieces}
    if moved:
        text |= _followed([(explicit[id(config)], index) for config, index in pieces], where)
    text[key] = len(pieces)
    if "max_window_layers" in text and not text.get("use_sliding_window"):
        text["max_window_layers"] = len(pieces)
    if text_config(base) is base:
        return text
    nested = next(name for name in TEXT_CONFIG_KEYS if text_config(base) is base.get(name))
    return {**base, nested: text}


def differing_layers(config: Json, where: str) -> bool:
    """Whether some setting gives layers different parts, so that their order means more than their weights."""
    lists = _explicit(text_config(config), where)
    return any(
        len({str(entry) for entry in value}) > 1
        for value in lists.values()
        if not isinstance(value, _Indices)
    )


class _Indices(tuple[int, ...]):
    """A list of layer indices, in contrast to a list with one entry per layer."""


def _is_whole(pieces: Sequence[tuple[Json, int]], layers: int) -> bool:
    """Every layer once, in order, of one checkpoint: nothing that belongs to layers changes."""
    return [index for _, index in pieces] == list(range(layers)) and len(
        {id(config) for config, _ in pieces}
    ) == 1


def _explicit(text: Json, where: str) -> dict[str, Any]:
    """Every per-layer setting of one checkpoint as a list, an index list or a text; BuildError where one is a rule."""
    written = text if _says_all(text) else {**_by_transformers(text, where), **text}
    layers = text[layer_count_key(text, where)]
    found = dict(_per_layer(written, layers))
    for rule, harmless in _RULES.items():
        value = written.get(rule)
        if value in (None, harmless, False) or isinstance(value, list) or _WRITTEN_OUT.get(rule) in found:
            continue
        raise BuildError(
            f"{where}: its setting {rule} = {value} gives each layer its part by its index, "
            "which layers in another order cannot keep; no layer path of it can be built."
        )
    return found


def _per_layer(config: Json, layers: int) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _INDEX_LISTS:
            if isinstance(value, (list, tuple)):
                yield key, _Indices(value)
        elif key in _PER_LAYER_TEXT and isinstance(value, str) and len(value) == layers:
            yield key, value
        elif isinstance(value, (list, tuple)) and len(value) == layers and not _NOT_PER_LAYER.match(key):
            yield key, list(value)


def _says_all(text: Json) -> bool:
    """Whether the config file alone tells how the layers differ."""
    model_type = text.get("model_type")
    if model_type in {"qwen2", "qwen3"} and text.get("use_sliding_window"):
        return "layer_types" in text
    return model_type in _UNIFORM


def _by_transformers(text: Json, where: str) -> dict[str, Any]:
    """The config with the defaults of its architecture filled in, as transformers reads it."""
    from transformers import CONFIG_MAPPING  # takes seconds, so only architectures that need it pay for it

    model_type = text.get("model_type")
    if model_type not in CONFIG_MAPPING:
        return {}
    try:
        return dict(CONFIG_MAPPING[model_type].from_dict(dict(text)).to_dict())
    except (ValueError, TypeError, KeyError) as error:
        raise BuildError(f"{where}: transformers does not accept its config.json ({error}).") from error


def _followed(pieces: Sequence[tuple[dict[str, Any], int]], where: str) -> dict[str, Any]:
    """Each per-layer setting with one entry for every layer of the path."""
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for lists, _ in pieces for key in lists):
        values = {str(entry) for lists, _ in pieces for entry in lists.get(key, ())}
        if any(key not in lists for lists, _ in pieces) and len(values) > 1:
            raise BuildError(
                f"{where}: not all sources have the per-layer setting {key}, so their layers do not mix."
            )
        first = next(lists[key] for lists, _ in pieces if key in lists)
        if isinstance(first, _Indices):
            result[key] = [
                position for position, (lists, index) in enumerate(pieces) if index in lists.get(key, ())
            ]
        elif isinstance(first, str):
            result[key] = "".join(lists.get(key, first)[index] for lists, index in pieces)
        else:
            # A source that is silent about a list whose entries are all equal has that same entry everywhere.
            result[key] = [lists[key][index] if key in lists else first[0] for lists, index in pieces]
    return result
