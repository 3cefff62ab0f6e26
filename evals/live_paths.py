"""Checks from config.json whether a checkpoint supports live layer paths, and whether a layer path is valid.

A live path runs source layers in any order without copying weights; every occurrence of a layer has its own slot in
the KV cache. Engines find what they need in the structure of the loaded model. For the families named here tests compare every
engine and runner; for others an engine checks itself when it opens, and refuses paths with the reason if the check fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evals.checkpoint_config import read_config
from evals.engine import EngineKind
from evals.errors import EngineError, LivePathsRefused
from evals.layer_visits import VisitPath, has_attention, layer_of, running

LIVE_FAMILIES: dict[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}
"""Families whose live paths are compared in both engines and on both of vLLM's runners: architecture by `model_type`."""

_FURTHER_FAMILIES = frozenset(
    {
        "bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "gpt2", "gpt_neox", "gpt_oss",
        "granite", "granitemoe", "mixtral", "olmo2", "olmo3", "olmoe", "opt", "phi", "qwen2_moe", "qwen3_moe", "smollm3", "stablelm",
        "starcoder2",
    }
)  # fmt: skip
"""Further families by `model_type`, whose random layer paths tests compare with built checkpoints in the transformers engine and in vLLM on
CPUs (docs/families.md)."""

_REPLACED_IN_VLLM = frozenset(
    {
        "bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3_text", "glm4", "gpt2", "granite", "granitemoe",
        "mixtral", "olmoe", "opt", "qwen2_moe", "qwen3_moe", "stablelm",
    }
)  # fmt: skip
"""Families by `model_type` of which tests compare a vLLM engine on CPUs whose weights were replaced with one that was opened with them."""

BUILD_ADVICE = "; build the path as a checkpoint and evaluate that."
"""End of the message of LivePathsRefused."""

_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def is_live_family(config: dict[str, Any]) -> bool:
    """Whether live layer paths support this architecture."""
    expected = LIVE_FAMILIES.get(str(config.get("model_type")))
    return expected is not None and config.get("architectures") in ([expected], None)


def has_plain_layers(config: dict[str, Any]) -> bool:
    """Whether the checkpoint is of a family whose live paths tests compare in every engine and runner, with layers of one kind."""
    return is_live_family(config) and len(set(config.get("layer_types") or ())) <= 1


def untested_family(model_type: str, architecture: str, *, kind: EngineKind, cpu: bool) -> str | None:
    """Why layer paths of a family are not run live unasked; None for families that tests compare with built checkpoints."""
    if LIVE_FAMILIES.get(model_type) == architecture:
        return None
    if (cpu or kind is EngineKind.TRANSFORMERS) and model_type in _FURTHER_FAMILIES:
        return None
    place = "the transformers engine" if kind is EngineKind.TRANSFORMERS else "vLLM"
    device = "" if cpu or kind is EngineKind.TRANSFORMERS else " on GPUs"
    return f"no test compares live layer paths of {architecture} in {place}{device} with built checkpoints"


def unreplaced_family(model_type: str, architecture: str, *, kind: EngineKind, cpu: bool) -> str | None:
    """Why a running engine of a family does not take over the weights of further built paths; None where tests compare that.

    The transformers engine copies weights into the parameters of any model, and refuses if one is not written. vLLM derives packed
    copies and other values from some weights, so that it is tested by family.
    """
    if kind is EngineKind.TRANSFORMERS or LIVE_FAMILIES.get(model_type) == architecture:
        return None
    if cpu and model_type in _REPLACED_IN_VLLM:
        return None
    return (
        f"no test replaces the weights of {architecture} in a running vLLM engine{'' if cpu else ' on GPUs'}"
    )


def layer_count(config: Mapping[str, Any]) -> int | None:
    """Number of decoder layers, of the language model in a multi-modal checkpoint; None if the configuration does not say it."""
    text = config.get("text_config") or config
    return next((text[key] for key in _LAYER_COUNTS if isinstance(text.get(key), int)), None)


def path_obstacle(config: Mapping[str, Any]) -> str | None:
    """Why no engine can run a live layer path, by the configuration alone; None if an engine has to try."""
    text = config.get("text_config") or config
    if layer_count(config) is None:
        return "its configuration does not say how many layers it has"
    if config.get("is_encoder_decoder"):
        return "it has an encoder and a decoder"
    if text.get("num_kv_shared_layers"):
        return "its last layers share the keys and values of earlier ones (num_kv_shared_layers)"
    if text.get("scale_attn_by_inverse_layer_idx"):
        return "its attention is scaled by the layer's number (scale_attn_by_inverse_layer_idx)"
    return None


def paths_refused(checkpoint: Path, architecture: str, reason: str, engine: str = "") -> LivePathsRefused:
    """The refusal of all layer paths of a checkpoint, by all engines or by `engine`, for example "in vLLM"."""
    where = f" {engine}" if engine else ""
    return LivePathsRefused(
        f"{checkpoint} is a {architecture}, which cannot run live layer paths{where}: {reason}{BUILD_ADVICE}"
    )


def require_live_family(checkpoint: Path) -> int:
    """The checkpoint's number of layers; LivePathsRefused if its configuration rules live layer paths out.

    Other architectures are tried: an engine checks, when it opens for layer paths, whether they equal built checkpoints.
    """
    config = read_config(checkpoint)
    obstacle = path_obstacle(config)
    count = layer_count(config)
    if obstacle is not None or count is None:
        architecture = ", ".join(config.get("architectures") or [str(config.get("model_type"))])
        raise paths_refused(checkpoint, architecture, str(obstacle))
    return count


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
