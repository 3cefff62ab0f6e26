"""Config of a checkpoint whose layers were reordered: the layer count and every per-layer setting.

There are four kinds of per-layer settings. Lists with one entry per layer follow the path. Lists of layer indices are
renumbered. The number of first layers of another kind (dense layers of a mixture of experts) is counted anew if they still come
first. Rules ("every fourth layer ...") cannot follow a path: they are replaced by lists if transformers computes them, and
refused otherwise.
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
"""Model types whose config file lists all differences between layers; for others, transformers adds its defaults."""

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
    "moe_layer_freq": 1,
    "moe_layer_interval": 1,
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
    "scale_attn_by_inverse_layer_idx": 0,
    "hidden_size_per_layer_input": 0,
    "per_layer_config": {},
}
"""Rules that depend on the layer index, with the value that makes all layers equal."""

_FIRST_LAYERS = ("first_k_dense_replace", "num_dense_layers", "n_dense_layers", "moe_layer_start_index")
"""Settings that say how many of the first layers are of another kind. They follow a path on which those layers come first."""

_EXTRA_LAYERS = ("num_nextn_predict_layers", "num_mtp_layers")
"""Numbers of layers after the last one, for speculative decoding alone: a reordered checkpoint leaves them out."""

_REPLACED_BY = {
    "full_attention_interval": "layer_types",
    "global_attn_every_n_layers": "layer_types",
    "sliding_window_pattern": "layer_types",
    "_sliding_window_pattern": "layer_types",
    "attn_layer_period": "layers_block_type",
    "no_rope_layer_interval": "no_rope_layers",
    "interleave_moe_layer_step": "moe_layers",
    "layer_group_size": "layer_types",
}
"""List setting that replaces a rule: loaders ignore the rule if the list exists."""


def relayered_config(origins: Sequence[tuple[Json, int]], base: Json, where: str) -> dict[str, Any]:
    """Config of a checkpoint whose layer k is layer `origins[k][1]` of the checkpoint with config `origins[k][0]`.

    All other settings come from `base`. Raises BuildError with the name of a setting that cannot follow the layers.
    """
    key = layer_count_key(base, where)
    text = dict(text_config(base))
    reordered = not _is_unchanged(origins, text[key])
    settings = {
        id(config): _per_layer_settings(text_config(config), where) if reordered else {}
        for config, _ in origins
    }
    if reordered:
        text |= _settings_along_path([(settings[id(config)], index) for config, index in origins], where)
        text |= _first_layers_along_path([(text_config(config), index) for config, index in origins], where)
        text |= {key: 0 for key in _EXTRA_LAYERS if text.get(key)}
    text[key] = len(origins)
    if "max_window_layers" in text and not text.get("use_sliding_window"):
        text["max_window_layers"] = len(origins)
    if text_config(base) is base:
        return text
    nested = next(name for name in TEXT_CONFIG_KEYS if text_config(base) is base.get(name))
    return {**base, nested: text}


def layers_differ(config: Json, where: str) -> bool:
    """Whether any per-layer setting differs between layers."""
    text = text_config(config)
    layers = text[layer_count_key(text, where)]
    lists = _per_layer_settings(text, where)
    if any(0 < (text.get(key) or 0) < layers for key in _FIRST_LAYERS):
        return True
    return any(
        0 < len(set(value) & set(range(layers))) < layers
        if isinstance(value, _Indices)
        else len({str(entry) for entry in value}) > 1
        for value in lists.values()
    )


class _Indices(tuple[int, ...]):
    """A list of layer indices, as opposed to a list with one entry per layer."""


def _is_unchanged(origins: Sequence[tuple[Json, int]], layers: int) -> bool:
    """Whether the layers are those of one checkpoint, once each and in order."""
    return [index for _, index in origins] == list(range(layers)) and len(
        {id(config) for config, _ in origins}
    ) == 1


def _per_layer_settings(text: Json, where: str) -> dict[str, Any]:
    """Per-layer settings of a checkpoint as list, index list or text. Raises BuildError for a rule without a list."""
    complete_config = text if _is_explicit(text) else {**_with_defaults(text, where), **text}
    layers = text[layer_count_key(text, where)]
    settings = dict(_find_lists(complete_config, layers))
    for rule, neutral in _RULES.items():
        value = complete_config.get(rule)
        if value in (None, neutral, False) or isinstance(value, list) or _REPLACED_BY.get(rule) in settings:
            continue
        raise BuildError(
            f"{where}: its setting {rule} = {value} depends on the layer index "
            "and cannot follow reordered layers; no layer path of it can be built."
        )
    return settings


def _find_lists(config: Json, layers: int) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _INDEX_LISTS:
            if isinstance(value, (list, tuple)):
                yield key, _Indices(value)
        elif key in _PER_LAYER_TEXT and isinstance(value, str) and len(value) == layers:
            yield key, value
        elif isinstance(value, (list, tuple)) and len(value) == layers and not _NOT_PER_LAYER.match(key):
            yield key, list(value)


def _is_explicit(text: Json) -> bool:
    """Whether the config file lists all differences between layers."""
    model_type = text.get("model_type")
    if model_type in {"qwen2", "qwen3"} and text.get("use_sliding_window"):
        return "layer_types" in text
    return model_type in _UNIFORM


def _with_defaults(text: Json, where: str) -> dict[str, Any]:
    """The config as transformers reads it, with the defaults of its architecture."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING  # slow import, needed for few architectures

    model_type = text.get("model_type")
    if model_type not in CONFIG_MAPPING:
        return {}
    try:
        return dict(CONFIG_MAPPING[model_type].from_dict(_with_floats(text)).to_dict())
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise BuildError(f"{where}: transformers does not accept its config.json ({reason}).") from error


def _with_floats(value: Any) -> Any:
    """A value of config.json with infinite numbers, which transformers writes as {"__float__": "Infinity"}."""
    if isinstance(value, Mapping):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {name: _with_floats(entry) for name, entry in value.items()}
    return [_with_floats(entry) for entry in value] if isinstance(value, list) else value


def _first_layers_along_path(origins: Sequence[tuple[Json, int]], where: str) -> dict[str, int]:
    """How many of the output's first layers are of the kind of the sources' first layers. Raises BuildError if others come between."""
    result: dict[str, int] = {}
    for key in _FIRST_LAYERS:
        if all(config.get(key) in (None, 0) for config, _ in origins):
            continue
        first = [index < (config.get(key) or 0) for config, index in origins]
        count = sum(first)
        if not all(first[:count]):
            raise BuildError(
                f"{where}: its setting {key} = {origins[0][0].get(key)} says that the first layers are of another kind, and on this "
                "path such a layer comes after one of the others; no checkpoint can hold it."
            )
        result[key] = count
    return result


def _settings_along_path(origins: Sequence[tuple[dict[str, Any], int]], where: str) -> dict[str, Any]:
    """Per-layer settings of the output, with one entry per layer of the path."""
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for lists, _ in origins for key in lists):
        values = {str(entry) for lists, _ in origins for entry in lists.get(key, ())}
        if any(key not in lists for lists, _ in origins) and len(values) > 1:
            raise BuildError(
                f"{where}: not all sources have the per-layer setting {key}, so their layers do not mix."
            )
        first_value = next(lists[key] for lists, _ in origins if key in lists)
        if isinstance(first_value, _Indices):
            result[key] = [
                position for position, (lists, index) in enumerate(origins) if index in lists.get(key, ())
            ]
        elif isinstance(first_value, str):
            result[key] = "".join(lists.get(key, first_value)[index] for lists, index in origins)
        else:
            # A source without the list gets its value, because all entries are equal.
            result[key] = [lists[key][index] if key in lists else first_value[0] for lists, index in origins]
    return result
