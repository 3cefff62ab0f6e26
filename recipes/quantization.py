"""Quantisation of a checkpoint's weights, read from its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from recipes.tensor_file import Frozen

MODELOPT_NAME = "hf_quant_config.json"
"""File in which NVIDIA's ModelOpt stores the quantisation config."""

_BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "modelopt": 8}
"""Bits of a weight for methods with a fixed width that the config omits."""
_GROUPS = {"gptq": 128, "awq": 128, "mxfp4": 32}
"""Default group size (weights per scale); other methods have one scale per row or tensor, whose size is negligible."""


class StoredQuantization(Frozen):
    """The parts of `quantization_config` that determine size and label."""

    method: str = Field(
        description="`quant_method` in lower case, for example gptq; 'unnamed' if it is missing."
    )
    bits: int | None = Field(description="Bits of a quantised weight; null if unknown.")
    group_size: int | None = Field(
        default=None, ge=1, description="Weights per scale; null if a scale covers a row or tensor."
    )
    named_bits: int | None = Field(description="Bits if the config states them; null otherwise.")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """Read from a config.json; None if the weights are not quantised."""
        value = config.get("quantization_config") or config.get("compression_config")
        if not isinstance(value, dict):
            return None
        nested = value.get("quantization")
        # ModelOpt's format: {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}.
        algorithm = str((nested if isinstance(nested, dict) else value).get("quant_algo") or "").upper()
        default = "compressed-tensors" if "config_groups" in value else None
        if algorithm:
            default = "modelopt"
        method = str(value.get("quant_method") or default or value.get("format") or "unnamed").lower()
        named_bits = value.get("bits") or (
            4 if value.get("load_in_4bit") else 8 if value.get("load_in_8bit") else None
        )
        weights = _group_weights(value)
        bits = named_bits or weights.get("num_bits") or (4 if "FP4" in algorithm else _BITS.get(method))
        group_size = value.get("group_size") or weights.get("group_size") or _GROUPS.get(method)
        return cls(
            method=method,
            bits=bits if isinstance(bits, int) else None,
            group_size=group_size if isinstance(group_size, int) and group_size > 0 else None,
            named_bits=named_bits if isinstance(named_bits, int) else None,
        )

    @property
    def label(self) -> str:
        """The method, with its bits if the config states them, for example gptq-4bit."""
        return f"{self.method}-{self.named_bits}bit" if self.named_bits else self.method

    def size_bytes(self, weights: int) -> int | None:
        """Size of this many quantised weights in bytes; a group adds a 16-bit scale and a zero point, in mxfp4 an 8-bit scale."""
        if self.bits is None:
            return None
        bits_per_group = 8 if self.method == "mxfp4" else 16 + self.bits
        return round(weights * (self.bits + (bits_per_group / self.group_size if self.group_size else 0)) / 8)


def _group_weights(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Weight scheme of the first group of a compressed-tensors config."""
    groups = value.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    return weights if isinstance(weights, dict) else {}


def with_modelopt(config: dict[str, Any], modelopt: dict[str, Any] | None) -> dict[str, Any]:
    """The config with the content of `hf_quant_config.json`, unless it has a quantisation config."""
    if modelopt is None or config.get("quantization_config") or config.get("compression_config"):
        return config
    return {**config, "quantization_config": modelopt}
