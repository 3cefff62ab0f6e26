"""Tiny real checkpoints, made in milliseconds: real names, real configs, a trained tokenizer, seeded random weights.

`tiny_checkpoint` writes the dense families (and Mixtral) itself, without torch; `tiny_of_type` lets transformers make one
of any architecture that it knows. Both load in transformers and vLLM.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.tensor_file import Tensor, header_bytes

VOCABULARY = 384
HEAD_DIM = 32

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
}
DENSE_FAMILIES = tuple(name for name in ARCHITECTURES if name != "mixtral")

_SAFETENSORS_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}

_TEXT = """The quick brown fox jumps over the lazy dog. What is the capital of France? The capital of France is Paris.
Question: Which of these is true? Answer: Yes, No, True, False, (A), (B), (C), (D). Let us think step by step.
A layer path names the source layers that a forward pass visits, in order. 0 1 2 3 4 5 6 7 8 9 10 11 12 100 2024.
"""


def tiny_checkpoint(
    directory: Path,
    *,
    family: str = "llama",
    layers: int = 4,
    hidden: int = 64,
    tied: bool = False,
    seed: int = 0,
    dtype: str = "bfloat16",
    shards: int = 1,
    vocabulary: int = VOCABULARY,
    chat_template: bool = True,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint of one of ARCHITECTURES; tensors of one seed and name are equal whatever the number of layers.

    `config` overrides keys of config.json. `vocabulary` counts embedding rows; the tokenizer has at most VOCABULARY tokens.
    """
    directory.mkdir(parents=True, exist_ok=True)
    values = {**_config(family, layers, hidden, tied, dtype, vocabulary), **(config or {})}
    _write_json(directory / "config.json", values)
    _write_json(
        directory / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    )
    write_tokenizer(directory, min(vocabulary, VOCABULARY), chat_template=chat_template)
    named = list(_shapes(family, values))
    _write_shards(directory, named, seed, dtype, shards)
    return directory


def tiny_of_type(
    directory: Path, model_type: str, *, seed: int = 0, dtype: str = "bfloat16", **config: Any
) -> Path:
    """A randomly initialised checkpoint of any architecture that transformers knows (hybrids, mixtures of experts, ...).

    `head_dim=None` leaves the setting out, for configs that compute it.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, set_seed

    small = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": HEAD_DIM, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    set_seed(seed)
    settings = {**small, **config}
    if settings["head_dim"] is None:
        del settings["head_dim"]
    config = CONFIG_MAPPING[model_type](**settings)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(directory)
    write_tokenizer(directory, VOCABULARY)
    return directory


def weight(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The values of one tensor before rounding: norms near one, the rest scaled so that every layer matters."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    noise = np.random.default_rng(int.from_bytes(digest[:8], "little")).standard_normal(
        shape, dtype=np.float32
    )
    if name.endswith("norm.weight"):
        return 1 + np.float32(0.1) * noise
    return noise / np.float32(math.sqrt(shape[-1]))


def write_tokenizer(directory: Path, size: int = VOCABULARY, *, chat_template: bool = True) -> None:
    """A byte-level BPE tokenizer with three special tokens, as tokenizer.json and tokenizer_config.json."""
    (directory / "tokenizer.json").write_text(_tokenizer(size), encoding="utf-8")
    values: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(
        directory / "tokenizer_config.json",
        values | ({"chat_template": CHAT_TEMPLATE} if chat_template else {}),
    )


@functools.cache
def _tokenizer(size: int) -> str:
    return trained_tokenizer(_TEXT.splitlines(), size)


def trained_tokenizer(lines: Iterable[str], size: int) -> str:
    """tokenizer.json of a byte-level BPE tokenizer of at most `size` tokens, trained on the lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return str(tokenizer.to_str())


def _config(family: str, layers: int, hidden: int, tied: bool, dtype: str, vocabulary: int) -> dict[str, Any]:
    heads = max(2, hidden // HEAD_DIM)
    values: dict[str, Any] = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 2048,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": heads // 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "vocab_size": vocabulary,
    }
    extra: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": None, "head_dim": hidden // heads},
        "qwen2": {"use_sliding_window": False, "sliding_window": None, "max_window_layers": layers},
        "qwen3": {"head_dim": hidden // heads, "use_sliding_window": False, "sliding_window": None},
        "phi3": {"original_max_position_embeddings": 2048, "rope_scaling": None, "sliding_window": None},
        "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": None},
    }
    return values | extra.get(family, {})


def _shapes(family: str, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        for name, shape in (*_attention_shapes(family, config), *_mlp_shapes(family, config)):
            yield prefix + name, shape
        yield prefix + "post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, hidden)


def _attention_shapes(family: str, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, heads, kv_heads = (
        config[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    head_dim = config.get("head_dim") or hidden // heads
    rows = {"q": heads * head_dim, "k": kv_heads * head_dim, "v": kv_heads * head_dim}
    if family == "phi3":
        yield "self_attn.qkv_proj.weight", (sum(rows.values()), hidden)
    else:
        for part, count in rows.items():
            yield f"self_attn.{part}_proj.weight", (count, hidden)
            if family == "qwen2":
                yield f"self_attn.{part}_proj.bias", (count,)
    yield "self_attn.o_proj.weight", (hidden, heads * head_dim)
    if family == "qwen3":
        yield "self_attn.q_norm.weight", (head_dim,)
        yield "self_attn.k_norm.weight", (head_dim,)


def _mlp_shapes(family: str, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    if family == "mixtral":
        yield "block_sparse_moe.gate.weight", (config["num_local_experts"], hidden)
        for expert in range(config["num_local_experts"]):
            for name, shape in (("w1", (inner, hidden)), ("w2", (hidden, inner)), ("w3", (inner, hidden))):
                yield f"block_sparse_moe.experts.{expert}.{name}.weight", shape
        return
    if family == "phi3":
        yield "mlp.gate_up_proj.weight", (2 * inner, hidden)
    else:
        yield "mlp.gate_proj.weight", (inner, hidden)
        yield "mlp.up_proj.weight", (inner, hidden)
    yield "mlp.down_proj.weight", (hidden, inner)


def _write_shards(
    directory: Path, named: list[tuple[str, tuple[int, ...]]], seed: int, dtype: str, shards: int
) -> None:
    per_shard = math.ceil(len(named) / shards)
    groups = [named[i : i + per_shard] for i in range(0, len(named), per_shard)]
    weight_map: dict[str, str] = {}
    total = 0
    for number, group in enumerate(groups, start=1):
        file = "model.safetensors" if shards == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        total += _write_file(directory / file, group, seed, dtype)
        weight_map |= {name: file for name, _ in group}
    if shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(directory / "model.safetensors.index.json", index)


def _write_file(path: Path, group: list[tuple[str, tuple[int, ...]]], seed: int, dtype: str) -> int:
    data = [_rounded(weight(seed, name, shape), dtype) for name, shape in group]
    entries = [
        Tensor(name=n, dtype=_SAFETENSORS_DTYPES[dtype], shape=s, file=path.name, start=0, size_bytes=len(d))
        for (n, s), d in zip(group, data, strict=True)
    ]
    path.write_bytes(header_bytes(entries) + b"".join(data))
    return sum(map(len, data))


def _rounded(values: NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2").tobytes()
    return values.astype("<f2" if dtype == "float16" else "<f4").tobytes()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
