"""Whether a checkpoint has all of its weights, from its configuration and the names in its weight files.

vLLM 0.32 starts where a linear layer's weight is missing and computes with whatever the memory held; transformers draws random
numbers. What is missing is told by the layer's siblings: layers of one kind have tensors of the same names.
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
"""Stacks whose layers `num_hidden_layers` counts; others, such as a vision tower's, have as many as are there."""
_ALTERNATIVES = (
    (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.qkv_proj",)),
    (("self_attn.o_proj",),),
    (("mlp.gate_proj", "mlp.up_proj"), ("mlp.gate_up_proj",)),
    (("mlp.down_proj",),),
)
"""Linear modules of a layer of the families that run live layer paths: one of each line's alternatives."""


def require_all_weights(checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Raise EngineError that names a tensor which the checkpoint lacks; a directory without weight files is left to the engine."""
    tensors = stored_tensors(checkpoint)
    if tensors is None:
        return
    missing = sorted(
        missing_tensors(set(tensors), config, quantised=stored_method(checkpoint, config) is not None)
    )
    if missing:
        refuse_missing(checkpoint, missing)


def refuse_missing(checkpoint: Path, missing: Iterable[str]) -> None:
    """Raise the EngineError for tensors that a checkpoint lacks."""
    names = sorted(missing)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    raise EngineError(
        f"{checkpoint} lacks weights of its model, an engine would run it with arbitrary numbers in their place: "
        f"{', '.join(names[:3])}{more}; download or build the checkpoint again."
    )


def missing_tensors(names: set[str], config: Mapping[str, Any], *, quantised: bool) -> Iterator[str]:
    """Names that a checkpoint with this configuration should have and has not; of quantised ones the modules."""
    config = config.get("text_config") or config
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in names:
        match = _LAYER.fullmatch(name)
        rest = match and (_weighted_module(match["rest"]) if quantised else match["rest"])
        if match and rest:
            stacks.setdefault(match["stack"], {}).setdefault(int(match["number"]), set()).add(rest)
    count = config.get("num_hidden_layers")
    for stack, layers in stacks.items():
        decoder = isinstance(count, int) and stack in _DECODERS
        kinds = _kinds(config, count) if decoder and isinstance(count, int) else {i: () for i in layers}
        for numbers in _groups(kinds):
            yield from _absent_beside(stack, {i: layers.get(i, set()) for i in numbers})
    known = is_live_family(dict(config))
    if known:
        yield from _absent_of_family(names, config)
    untied = config.get("tie_word_embeddings") is False or (known and not config.get("tie_word_embeddings"))
    if untied and "model.embed_tokens.weight" in names and not any(n.startswith("lm_head.") for n in names):
        yield "lm_head.weight"


def _weighted_module(rest: str) -> str | None:
    """The module that a stored form of a weight (`weight`, `qweight`, `weight_packed`, `weight.absmax`) belongs to."""
    module, _, tensor = rest.partition(".weight") if ".weight" in rest else rest.rpartition(".")
    return module if ".weight" in rest or tensor.startswith("qweight") else None


def _kinds(config: Mapping[str, Any], count: int) -> dict[int, tuple[str, ...]]:
    """What the configuration's per-layer lists say about each layer; those that share keys with others are left out."""
    lists = [value for value in config.values() if isinstance(value, list) and len(value) == count]
    pattern = config.get("hybrid_override_pattern")
    lists += [list(pattern)] if isinstance(pattern, str) and len(pattern) == count else []
    shared = config.get("num_kv_shared_layers") or 0
    return {
        i: tuple(json.dumps(each[i], sort_keys=True) for each in lists) for i in range(count - int(shared))
    }


def _groups(kinds: Mapping[int, tuple[str, ...]]) -> list[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, kind in kinds.items():
        groups.setdefault(kind, []).append(number)
    return list(groups.values())


def _absent_beside(stack: str, layers: Mapping[int, set[str]]) -> Iterator[str]:
    """What a layer lacks of a sibling that has all of its own names, and at least half of the layers have."""
    counts = Counter(name for present in layers.values() for name in present)
    usual = {name for name, times in counts.items() if 2 * times >= len(layers)}
    kinds = {frozenset(present) for present in layers.values()}
    for number, present in layers.items():
        # A layer that has something of its own is of another kind.
        fuller = [kind for kind in kinds if present < kind and kind - present <= usual]
        if fuller:
            yield from (f"{stack}.{number}.{name}" for name in max(fuller, key=len) - present)


def _absent_of_family(names: set[str], config: Mapping[str, Any]) -> Iterator[str]:
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
