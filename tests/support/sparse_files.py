"""Checkpoints of any size that take no disk: headers as the real ones have them, then a hole. Made without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.tensor_file import DTYPE_BITS, Tensor, header_bytes

SMALL_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def linear_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Name of every linear layer of a Llama, without `.weight`, to rows (output) and columns (input)."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    parts = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    layers = range(config["num_hidden_layers"])
    return {f"model.layers.{layer}.{name}": shape for layer in layers for name, shape in parts.items()}


def sparse_checkpoint(
    folder: Path, config: Mapping[str, Any], linears: Mapping[str, tuple[str, tuple[int, ...]]] | None = None
) -> Path:
    """A Llama of this config; `linears` says how its linear layers are stored (tensor to dtype and shape), else in BF16."""
    vocabulary, hidden = config["vocab_size"], config["hidden_size"]
    if linears is None:
        linears = {f"{name}.weight": ("BF16", shape) for name, shape in linear_shapes(config).items()}
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("BF16", (vocabulary, hidden)),
        "lm_head.weight": ("BF16", (vocabulary, hidden)),
        "model.norm.weight": ("BF16", (hidden,)),
        **linears,
    }
    tensors, at = [], 0
    for name, (dtype, shape) in shapes.items():
        size = math.prod(shape) * DTYPE_BITS[dtype] // 8
        tensors.append(
            Tensor(name=name, dtype=dtype, shape=shape, file="model.safetensors", start=at, size_bytes=size)
        )
        at += size
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text("{}")
    header = header_bytes(tensors)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + at)
    return folder
