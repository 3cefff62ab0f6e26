"""Tiny random checkpoints of many model families, with layers that differ where a family's layers can."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from evals.live_paths import layer_count
from tests.support.tiny_checkpoints import tiny_of_type

LENGTH = 2048
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_QWEN_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_WINDOW = {"sliding_window": 16}
_LOGITS = {"logit_scale": 1.0}  # by default a sixteenth, which would hide differences

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
    "cohere": _LOGITS,
    "cohere2": {**_WINDOW, **_LOGITS, "num_hidden_layers": 5},
    "starcoder2": {"sliding_window": None},
    "smollm3": {},
    "phi": {},
    "gpt_neox": {"intermediate_size": 128, "num_key_value_heads": 2},
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
    """A float32 checkpoint of one of FAMILIES or HYBRIDS, in which every layer matters."""
    return random_checkpoint(directory, model_type, (FAMILIES | HYBRIDS)[model_type], seed=seed)


def random_checkpoint(
    directory: Path, model_type: str, settings: Mapping[str, Any], *, seed: int = 0
) -> Path:
    """A float32 checkpoint of any architecture of transformers whose layers change log-probabilities by about one nat.

    Norms, biases and other vectors, which are initialised alike in all layers, differ between layers.
    """
    settings = {"max_position_embeddings": LENGTH, "initializer_range": 0.1, **settings}
    tiny_of_type(directory, model_type, seed=seed, dtype="float32", **settings)
    generator = torch.Generator().manual_seed(seed)
    for file in sorted(directory.glob("*.safetensors")):
        tensors = load_file(file)
        for name, tensor in sorted(tensors.items()):
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensors[name] = tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        save_file(tensors, file, metadata={"format": "pt"})
    return directory


def layers_of(checkpoint: Path) -> int:
    """Number of layers by config.json."""
    count = layer_count(json.loads((checkpoint / "config.json").read_text(encoding="utf-8")))
    assert count is not None
    return count
