"""How a checkpoint's stored weights are quantised, as its config says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from recipes.tensor_file import Frozen

MODELOPT_NAME = "hf_quant_config.json"
"""Where NVIDIA's ModelOpt writes what other tools write into config.json."""

_BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "modelopt": 8}
"""Bits of a weight where the method has one width and the config does not repeat it."""
_GROUPS = {"gptq": 128, "awq": 128, "mxfp4": 32}
"""Weights that share a scale where the config does not say; others have one a row or tensor, which is next to nothing."""


class StoredQuantization(Frozen):
    """The `quantization_config` of a checkpoint, as far as its size and its name depend on it."""

    method: str = Field(
        description="`quant_method` in lower case, for example gptq; 'unnamed' where there is none."
    )
    bits: int | None = Field(description="Bits of a quantised weight; null where the config does not say.")
    group_size: int | None = Field(
        default=None, ge=1, description="Weights that share a scale; null where a whole row or tensor does."
    )
    named_bits: int | None = Field(description="Bits that the config spells out beside the method.")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """Read from a config.json; null where its weights are not quantised."""
        value = config.get("quantization_config") or config.get("compression_config")
        if not isinstance(value, dict):
            return None
        nested = value.get("quantization")
        # ModelOpt nests what it did: {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}.
        algorithm = str((nested if isinstance(nested, dict) else value).get("quant_algo") or "").upper()
        default = "compressed-tensors" if "config_groups" in value else None
        if algorithm:
            default = "modelopt"
        method = str(value.get("quant_method") or default or value.get("format") or "unnamed").lower()
        named = value.get("bits") or (
            4 if value.get("load_in_4bit") else 8 if value.get("load_in_8bit") else None
        )
        weights = _group_weights(value)
        bits = named or weights.get("num_bits") or (4 if "FP4" in algorithm else _BITS.get(method))
        group = value.get("group_size") or weights.get("group_size") or _GROUPS.get(method)
        return cls(
            method=method,
            bits=bits if isinstance(bits, int) else None,
            group_size=group if isinstance(group, int) and group > 0 else None,
            named_bits=named if isinstance(named, int) else None,
        )

    @property
    def label(self) -> str:
        """For people: the method, with its bits where the config names them, for example gptq-4bit."""
        return f"{self.method}-{self.named_bits}bit" if self.named_bits else self.method

    def size_bytes(self, numbers: int) -> int | None:
        """Bytes of so many quantised weights; a group adds a scale of 16 bits and a zero point, in mxfp4 a scale of 8 bits."""
        if self.bits is None:
            return None
        added = 8 if self.method == "mxfp4" else 16 + self.bits
        return round(numbers * (self.bits + (added / self.group_size if self.group_size else 0)) / 8)


def _group_weights(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scheme of the first group of a compressed-tensors config."""
    groups = value.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    return weights if isinstance(weights, dict) else {}


def with_modelopt(config: dict[str, Any], modelopt: dict[str, Any] | None) -> dict[str, Any]:
    """A config.json with what `hf_quant_config.json` says, where it does not say it itself."""
    if modelopt is None or config.get("quantization_config") or config.get("compression_config"):
        return config
    return {**config, "quantization_config": modelopt}
