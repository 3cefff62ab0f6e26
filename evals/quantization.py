"""The engine's name of a checkpoint's quantisation method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.errors import EngineError

VLLM_METHODS = frozenset(
    {
        "awq",
        "compressed-tensors",
        "experts_int8",
        "fbgemm_fp8",
        "fp8",
        "gptq",
        "humming",
        "inc",
        "modelopt",
        "modelopt_fp4",
        "modelopt_mixed",
        "modelopt_mxfp8",
        "moe_wna16",
        "mxfp4",
        "mxfp8",
        "quark",
        "torchao",
    }
)
"""Values of `quant_method` in a checkpoint's config that vLLM 0.32 loads."""

DEPRECATED_METHODS = frozenset({"fbgemm_fp8"})
"""Methods that vLLM loads only with `allow_deprecated_quantization`; Meta's Llama-3.1-405B-Instruct-FP8 uses one."""

_OTHER_SPELLINGS = {
    "compressed_tensors": "compressed-tensors",
    "auto_gptq": "gptq",
    "gptq_marlin": "gptq",
    "auto_awq": "awq",
    "awq_marlin": "awq",
    "auto-round": "inc",
    "intel/auto-round": "inc",
}


def engine_quantization(method: str) -> str:
    """vLLM's name of a checkpoint's `quant_method`, without the kernel; EngineError for methods that vLLM does not load."""
    name = _OTHER_SPELLINGS.get(method.lower(), method.lower())
    if name not in VLLM_METHODS:
        raise EngineError(
            f"Weights quantised with {method} cannot be loaded by vLLM: use a copy that is not quantised, or one in "
            "compressed-tensors, fp8, GPTQ or AWQ."
        )
    return name


def stored_quantization(checkpoint: Path, config: Mapping[str, Any]) -> str | None:
    """vLLM's name of a checkpoint's quantisation; None if it is not quantised, EngineError if vLLM cannot load it."""
    method = stored_method(checkpoint, config)
    return None if method is None else engine_quantization(method)


def stored_method(checkpoint: Path, config: Mapping[str, Any]) -> str | None:
    """`quant_method` of a checkpoint's config or of ModelOpt's file; None if the weights are not quantised."""
    stored = config.get("quantization_config") or config.get("compression_config")
    if not stored:
        return "modelopt" if _has_modelopt(checkpoint) else None
    if not isinstance(stored, dict):
        return "unknown"
    default = "compressed-tensors" if "config_groups" in stored else "unknown"
    if stored.get("quant_algo") or isinstance(stored.get("quantization"), dict):
        default = "modelopt"
    return str(stored.get("quant_method") or default).lower()


def _has_modelopt(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / "hf_quant_config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
