"""Checks from config.json whether a checkpoint supports live layer paths, and whether a layer path is valid.

A live path runs source layers in any order without copying weights; every occurrence of a layer has its own slot in
the KV cache. The engines implement this for the families named here; others are rejected before anything is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evals.errors import EngineError, UnsupportedArchitecture
from evals.layer_visits import VisitPath, has_attention, layer_of, running

LIVE_FAMILIES: dict[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}
"""Architecture by `model_type` of config.json."""


def read_config(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's config.json; EngineError if it is missing or unreadable."""
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EngineError(
            f"{checkpoint} is not a checkpoint, it has no config.json: name its directory."
        ) from None
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path} cannot be read ({error}): correct it or download the checkpoint again."
        ) from error
    if not isinstance(config, dict):
        raise EngineError(f"{path} holds no JSON object: correct it or download the checkpoint again.")
    return config


def is_live_family(config: dict[str, Any]) -> bool:
    """Whether live layer paths support this architecture."""
    expected = LIVE_FAMILIES.get(str(config.get("model_type")))
    return expected is not None and config.get("architectures") in ([expected], None)


def require_live_family(checkpoint: Path) -> int:
    """The checkpoint's number of layers; UnsupportedArchitecture if it cannot run live layer paths."""
    config = read_config(checkpoint)
    if not is_live_family(config):
        architecture = ", ".join(config.get("architectures") or [str(config.get("model_type"))])
        raise UnsupportedArchitecture(
            f"{checkpoint} is a {architecture}, for which live layer paths are not written "
            f"(they are for {', '.join(LIVE_FAMILIES.values())}): build the path as a checkpoint and evaluate that."
        )
    kinds = config.get("layer_types")
    if kinds and len(set(kinds)) > 1:
        raise UnsupportedArchitecture(
            f"{checkpoint} mixes kinds of layers ({', '.join(sorted(set(kinds)))}), which live layer paths do not "
            "support: build the path as a checkpoint and evaluate that."
        )
    return int(config["num_hidden_layers"])


def check_layer_path(layers: VisitPath, n_layers: int, slots: int | None, checkpoint: Path) -> None:
    """Raise EngineError if the path is empty, names a missing layer or exceeds the slots (None: no limit).

    Slots are KV caches: visits without attention need none.
    """
    visits = running(layers)
    if not visits:
        raise EngineError(f"The layer path for {checkpoint} is empty: name at least one layer.")
    unknown_layers = [layer for layer in map(layer_of, layers) if not 0 <= layer < n_layers]
    if unknown_layers:
        raise EngineError(
            f"{checkpoint} has layers [0, {n_layers}), and the layer path names layer {unknown_layers[0]}."
        )
    needed = sum(map(has_attention, visits))
    if slots is not None and needed > slots:
        raise EngineError(
            f"The layer path has {needed} layers and the engine has slots for {slots}: open the engine with "
            f"extra_layer_slots={needed - n_layers} or more."
        )


Result = TypeVar("Result")


class _HasLayerPath(Protocol):
    @property
    def layer_path(self) -> VisitPath | None: ...

    def set_layer_path(self, layers: VisitPath | None) -> None: ...


def each_path(
    engine: _HasLayerPath,
    paths: Sequence[VisitPath],
    run: Callable[[], Iterator[tuple[int, Result]]],
) -> Iterator[tuple[int, int, Result]]:
    """Run the same requests on each path, then restore the previous path. Yields path number, request index, result."""
    previous = engine.layer_path
    try:
        for number, layers in enumerate(paths):
            engine.set_layer_path(layers)
            for index, result in run():
                yield number, index, result
    finally:
        engine.set_layer_path(previous)
