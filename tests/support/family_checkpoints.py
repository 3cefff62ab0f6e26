"""Tiny random checkpoints of many model families, with layers that differ where a family's layers can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.tiny_checkpoints import tiny_of_type

LENGTH = 2048
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_QWEN_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_WINDOW = {"sliding_window": 16}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "phi3": {"sliding_window": None},
    "mixtral": _EXPERTS,
    "qwen2_moe": {**_QWEN_EXPERTS, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 1},
    "qwen3_moe": {**_QWEN_EXPERTS, "mlp_only_layers": [1]},
    "granitemoe": _EXPERTS,
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "gemma": {},
    "gemma2": {**_WINDOW, "num_hidden_layers": 5},
    "gemma3_text": {**_WINDOW, "num_hidden_layers": 7},
    "granite": {},
    "glm": {},
    "glm4": {},
    "olmo2": {},
    "olmo3": {**_WINDOW, "num_hidden_layers": 5},
    "stablelm": {},
    "gpt_oss": {**_WINDOW, **_EXPERTS},
    "cohere": {},
    "cohere2": {**_WINDOW, "num_hidden_layers": 5},
    "starcoder2": {"sliding_window": None},
    "smollm3": {},
    "phi": {},
    "gpt_neox": {"intermediate_size": 128},
    "gpt2": {},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"n_layer": 4, "n_head": 2},
    "falcon": {"head_dim": None},
}
"""Settings by `model_type`, besides small sizes; windows are shorter than the requests of the tests."""


_DELTA_NET = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "num_hidden_layers": 8,
}  # fmt: skip
HYBRIDS: dict[str, dict[str, Any]] = {
    "qwen3_5_text": _DELTA_NET,
    "qwen3_next": {**_DELTA_NET, **_QWEN_EXPERTS, "shared_expert_intermediate_size": 64},
}
"""Families with layers of linear attention, of which vLLM runs no live path."""


def family_checkpoint(directory: Path, model_type: str, *, seed: int = 0) -> Path:
    """A float32 checkpoint of one of FAMILIES or HYBRIDS."""
    settings = {"max_position_embeddings": LENGTH, **(FAMILIES | HYBRIDS)[model_type]}
    return tiny_of_type(directory, model_type, seed=seed, dtype="float32", **settings)


def layers_of(checkpoint: Path) -> int:
    """Number of layers by config.json."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return int(next(config[key] for key in ("num_hidden_layers", "n_layer") if key in config))
