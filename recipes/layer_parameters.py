"""Numbers of parameters by a config alone, layer by layer, for families whose layers are attention and a (sparse) MLP.

All counts are of config.json's values; a test compares them with the tensors of a checkpoint of every family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from recipes.layer_state import LINEAR, layer_kinds
from recipes.tensor_file import Frozen

Json = Mapping[str, Any]


EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Settings with the number of experts, of which a family has one."""


class LayerSizes(Frozen):
    """Parameters of a checkpoint's layers."""

    layers: tuple[int, ...] = Field(description="Parameters of each layer.")
    active: tuple[int, ...] = Field(
        description="Parameters of each layer that one token uses: all but those of the experts that it is not sent to."
    )
    attention: tuple[int, ...] = Field(
        description="Parameters of each layer's attention and of its share of the norms, which is half unless there is one norm."
    )
    final_norm: int = Field(description="Parameters of the norm after the last layer.")


class _Form(Frozen):
    """How the layers of a family are made up. A name of a setting stands for its value in the config."""

    norms: int = 2
    """Norms of hidden size."""
    norm_bias: bool | str = False
    norm_weight: bool = True
    qk_norm: str = ""
    """head: one norm of head size each for queries and keys; full: of all their heads; heads: of each head separately."""
    qk_norm_if: str = ""
    qkv_bias: bool | str = False
    o_bias: bool | str = False
    sinks: bool = False
    gated: bool = False
    """Whether the query projection gives a gate of its size besides."""
    mlp: int = 3
    """Matrices of an MLP or an expert."""
    mlp_bias: bool | str = False
    experts: bool = False
    expert_size: str = "intermediate_size"
    shared_size: str = ""
    router_bias: bool = False
    expert_bias: bool = False


_FORMS: dict[str, _Form] = {
    "gemma": _Form(qkv_bias="attention_bias", o_bias="attention_bias"),
    "gemma2": _Form(norms=4, qkv_bias="attention_bias", o_bias="attention_bias"),
    "gemma3_text": _Form(norms=4, qk_norm="head", qkv_bias="attention_bias", o_bias="attention_bias"),
    "granite": _Form(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias"),
    "glm": _Form(qkv_bias="attention_bias"),
    "glm4": _Form(norms=4, qkv_bias="attention_bias"),
    "olmo2": _Form(qk_norm="full", qkv_bias="attention_bias", o_bias="attention_bias"),
    "olmo3": _Form(qk_norm="full", qkv_bias="attention_bias", o_bias="attention_bias"),
    "smollm3": _Form(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias"),
    "stablelm": _Form(norm_bias=True, qk_norm="heads", qk_norm_if="qk_layernorm", qkv_bias="use_qkv_bias"),
    "starcoder2": _Form(norm_bias=True, qkv_bias="use_bias", o_bias="use_bias", mlp=2, mlp_bias="use_bias"),
    "cohere": _Form(norms=1, qk_norm="heads", qk_norm_if="use_qk_norm", qkv_bias="attention_bias", o_bias="attention_bias"),
    "cohere2": _Form(norms=1, qkv_bias="attention_bias", o_bias="attention_bias"),
    "mixtral": _Form(experts=True),
    "granitemoe": _Form(experts=True, qkv_bias="attention_bias", o_bias="attention_bias"),
    "olmoe": _Form(experts=True, qk_norm="full", qkv_bias="attention_bias", o_bias="attention_bias"),
    "qwen2_moe": _Form(
        experts=True, expert_size="moe_intermediate_size", shared_size="shared_expert_intermediate_size", qkv_bias="qkv_bias"
    ),
    "qwen3_moe": _Form(
        experts=True, expert_size="moe_intermediate_size", qk_norm="head", qkv_bias="attention_bias", o_bias="attention_bias"
    ),
    "qwen3_5_text": _Form(qk_norm="head", gated=True, qkv_bias="attention_bias", o_bias="attention_bias"),
    "qwen3_next": _Form(
        experts=True, expert_size="moe_intermediate_size", shared_size="shared_expert_intermediate_size", qk_norm="head", gated=True,
        qkv_bias="attention_bias", o_bias="attention_bias"
    ),
    "gpt_oss": _Form(
        experts=True, qkv_bias="attention_bias", o_bias="attention_bias", sinks=True, router_bias=True, expert_bias=True
    ),
}  # fmt: skip


def layer_sizes(config: Json, n_layers: int) -> LayerSizes | None:
    """Sizes of the layers by the config; None for a family that is not listed here, or if a setting is missing."""
    form = _FORMS.get(str(config.get("model_type")))
    if form is None:
        return None
    try:
        norms = _norms(form, config)
        kinds = layer_kinds(config, str(config["model_type"]), n_layers) or ("",) * n_layers
        mixers = [_linear(config) if kind == LINEAR else _attention(form, config) for kind in kinds]
        dense = _mlp(form, config, config["intermediate_size"], bias=_flag(form.mlp_bias, config))
        all_experts, used_experts = _experts(form, config) if form.experts else (dense, dense)
        sparse = [form.experts and _is_sparse(layer, config) for layer in range(n_layers)]
        final_norm = config["hidden_size"] * (1 + _flag(form.norm_bias, config))
    except (KeyError, TypeError, StopIteration):
        return None
    both = list(zip(mixers, sparse, strict=True))
    return LayerSizes(
        layers=tuple(mixer + norms + (all_experts if is_sparse else dense) for mixer, is_sparse in both),
        active=tuple(mixer + norms + (used_experts if is_sparse else dense) for mixer, is_sparse in both),
        attention=tuple(mixer + norms // min(form.norms, 2) for mixer in mixers),
        final_norm=final_norm,
    )


def _linear(config: Json) -> int:
    """A gated delta net: projections of queries, keys, values, gates and rates, the convolution, and the norm of its output."""
    hidden, heads, head = (
        config[k] for k in ("hidden_size", "linear_num_value_heads", "linear_value_head_dim")
    )
    keys, values = config["linear_num_key_heads"] * config["linear_key_head_dim"], heads * head
    projections = hidden * (2 * keys + 2 * values + 2 * heads) + values * hidden
    return int(projections + (2 * keys + values) * config["linear_conv_kernel_dim"] + 2 * heads + head)


def _flag(value: bool | str, config: Json) -> bool:
    """The value itself, or that of the setting that it names."""
    return bool(config[value]) if isinstance(value, str) else value


def _attention(form: _Form, config: Json) -> int:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head = config.get("head_dim") or hidden // heads
    query, key = heads * head, kv_heads * head
    count = hidden * (query * (1 + form.gated) + 2 * key) + query * hidden
    count += (query + 2 * key) * _flag(form.qkv_bias, config) + hidden * _flag(form.o_bias, config)
    if form.qk_norm and (not form.qk_norm_if or config[form.qk_norm_if]):
        count += 2 * head if form.qk_norm == "head" else query + key
    return int(count + heads * form.sinks)


def _norms(form: _Form, config: Json) -> int:
    return int(form.norms * config["hidden_size"] * (1 + _flag(form.norm_bias, config)))


def _mlp(form: _Form, config: Json, size: int, *, bias: bool) -> int:
    """One MLP or expert of this inner size."""
    hidden = config["hidden_size"]
    return int(form.mlp * hidden * size + bias * ((form.mlp - 1) * size + hidden))


def _experts(form: _Form, config: Json) -> tuple[int, int]:
    """Parameters of a sparse MLP with its router: all, and those that one token uses."""
    hidden, count = config["hidden_size"], next(config[key] for key in EXPERT_COUNTS if config.get(key))
    expert = _mlp(form, config, config[form.expert_size], bias=form.expert_bias)
    always = count * (hidden + form.router_bias)
    if form.shared_size:
        always += _mlp(form, config, config[form.shared_size], bias=False) + hidden
    return always + count * expert, always + config["num_experts_per_tok"] * expert


def _is_sparse(layer: int, config: Json) -> bool:
    """Whether a layer of a family with experts has them."""
    step = config.get("decoder_sparse_step") or 1
    return layer not in (config.get("mlp_only_layers") or ()) and (layer + 1) % step == 0
