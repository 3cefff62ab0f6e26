"""Finds missing weights of a checkpoint by its configuration and the tensor names in its weight files.

If a linear layer's weight is missing, vLLM 0.32 starts with uninitialised memory and transformers with random numbers. Missing
tensors are found by comparing layers: layers of one kind have tensors of the same names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.errors import EngineError
from evals.live_paths import is_live_family
from evals.quantization import stored_method
from evals.weight_headers import stored_tensors

_LAYER = re.compile(r"(?P<stack>[^0-9]{1,200}?)\.(?P<number>[0-9]{1,6})\.(?P<rest>.+)")
_DECODERS = frozenset(
    {
        "backbone.layers",
        "gpt_neox.layers",
        "language_model.model.layers",
        "model.decoder.layers",
        "model.language_model.layers",
        "model.layers",
        "transformer.blocks",
        "transformer.h",
    }
)
"""Stacks whose layers `num_hidden_layers` counts; for others, such as a vision tower, the stored layers are counted."""
_ALTERNATIVES = (
    (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.qkv_proj",)),
    (("self_attn.o_proj",),),
    (("mlp.gate_proj", "mlp.up_proj"), ("mlp.gate_up_proj",)),
    (("mlp.down_proj",),),
)
"""Linear modules of a layer in families with live layer paths; each line lists alternatives."""


def require_all_weights(checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Raise EngineError if the checkpoint lacks tensors; the engine reports a directory without weight files."""
    tensors = stored_tensors(checkpoint)
    if tensors is None:
        return
    missing = sorted(
        missing_tensors(set(tensors), config, quantised=stored_method(checkpoint, config) is not None)
    )
    if missing:
        refuse_missing(checkpoint, missing)


def refuse_missing(checkpoint: Path, missing: Iterable[str]) -> None:
    """Raise the EngineError for missing tensors."""
    names = sorted(missing)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    raise EngineError(
        f"{checkpoint} lacks weights of its model, for which an engine would use arbitrary numbers: "
        f"{', '.join(names[:3])}{more}; download or build the checkpoint again."
    )


def missing_tensors(names: set[str], config: Mapping[str, Any], *, quantised: bool) -> Iterator[str]:
    """Tensor names that a checkpoint with this configuration lacks; module names if it is quantised."""
    config = config.get("text_config") or config
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in names:
        match = _LAYER.fullmatch(name)
        tensor = match and (_weighted_module(match["rest"]) if quantised else match["rest"])
        if match and tensor:
            stacks.setdefault(match["stack"], {}).setdefault(int(match["number"]), set()).add(tensor)
    count = config.get("num_hidden_layers")
    for stack, layers in stacks.items():
        decoder = isinstance(count, int) and stack in _DECODERS
        kinds = _kinds(config, count) if decoder and isinstance(count, int) else {i: () for i in layers}
        for numbers in _layers_by_kind(kinds):
            yield from _missing_in_stack(stack, {i: layers.get(i, set()) for i in numbers})
    is_live = is_live_family(dict(config))
    if is_live:
        yield from _missing_in_family(names, config)
    untied = config.get("tie_word_embeddings") is False or (is_live and not config.get("tie_word_embeddings"))
    if untied and "model.embed_tokens.weight" in names and not any(n.startswith("lm_head.") for n in names):
        yield "lm_head.weight"


def _weighted_module(name: str) -> str | None:
    """The module of a stored weight (`weight`, `qweight`, `weight_packed`, `weight.absmax`); None for other tensors."""
    module, _, tensor = name.partition(".weight") if ".weight" in name else name.rpartition(".")
    return module if ".weight" in name or tensor.startswith("qweight") else None


def _kinds(config: Mapping[str, Any], count: int) -> dict[int, tuple[str, ...]]:
    """Kind of each layer by the configuration's per-layer lists; layers that share keys with others are left out."""
    lists = [value for value in config.values() if isinstance(value, list) and len(value) == count]
    pattern = config.get("hybrid_override_pattern")
    lists += [list(pattern)] if isinstance(pattern, str) and len(pattern) == count else []
    shared = config.get("num_kv_shared_layers") or 0
    return {
        i: tuple(json.dumps(layer_values[i], sort_keys=True) for layer_values in lists)
        for i in range(count - int(shared))
    }


def _layers_by_kind(kinds: Mapping[int, tuple[str, ...]]) -> list[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, kind in kinds.items():
        groups.setdefault(kind, []).append(number)
    return list(groups.values())


def _missing_in_stack(stack: str, layers: Mapping[int, set[str]]) -> Iterator[str]:
    """Names that a layer lacks, compared with a layer that has a superset of its names; at least half of the layers have them."""
    counts = Counter(name for present in layers.values() for name in present)
    usual = {name for name, times in counts.items() if 2 * times >= len(layers)}
    kinds = {frozenset(present) for present in layers.values()}
    for number, present in layers.items():
        # A layer with names that others lack is of another kind.
        fuller = [kind for kind in kinds if present < kind and kind - present <= usual]
        if fuller:
            yield from (f"{stack}.{number}.{name}" for name in max(fuller, key=len) - present)


def _missing_in_family(names: set[str], config: Mapping[str, Any]) -> Iterator[str]:
    modules = {_weighted_module(name) for name in names}
    for layer in range(int(config.get("num_hidden_layers") or 0)):
        for alternatives in _ALTERNATIVES:
            absent = [
                [name for name in group if f"model.layers.{layer}.{name}" not in modules]
                for group in alternatives
            ]
            yield from (f"model.layers.{layer}.{name}.weight" for name in min(absent, key=len))
    required = ("model.embed_tokens.weight", "model.norm.weight")
    yield from (name for name in required if _weighted_module(name) not in modules)
