"""A checkpoint that lacks a weight is refused by name before anything is scored; one that lacks none is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from evals.engine import EngineKind
from evals.errors import EngineError
from evals.weight_headers import stored_tensors
from evals.weight_names import missing_tensors, require_all_weights
from tests.support.engine_requests import opened
from tests.support.tiny_checkpoints import ARCHITECTURES, tiny_checkpoint, tiny_of_type

KINDS = pytest.mark.parametrize(
    "kind", [EngineKind.TRANSFORMERS, pytest.param(EngineKind.VLLM, marks=pytest.mark.vllm)]
)
DOWN = "model.layers.1.mlp.down_proj.weight"


def without(checkpoint: Path, *names: str) -> Path:
    """The checkpoint without these tensors; an index still names them."""
    for path in checkpoint.glob("*.safetensors"):
        tensors = load_file(path)
        save_file({n: t for n, t in tensors.items() if n not in names}, path, metadata={"format": "pt"})
    return checkpoint


def checked(checkpoint: Path) -> None:
    require_all_weights(checkpoint, json.loads((checkpoint / "config.json").read_text()))


@KINDS
@pytest.mark.parametrize(
    ("name", "shards"),
    [(DOWN, 1), (DOWN, 3), ("model.layers.0.self_attn.k_proj.weight", 1), ("lm_head.weight", 1)],
)
def test_a_missing_weight_is_refused_by_name(
    kind: EngineKind, name: str, shards: int, tmp_path: Path
) -> None:
    checkpoint = without(tiny_checkpoint(tmp_path, dtype="float32", shards=shards), name)
    with pytest.raises(EngineError, match=f"lacks weights of its model.*{name}"), opened(kind, checkpoint):
        pass


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("tied", [False, True])
def test_whole_checkpoints_pass_and_each_missing_linear_weight_is_named(
    family: str, layers: int, tied: bool, tmp_path: Path
) -> None:
    whole = tiny_checkpoint(
        tmp_path / "whole", family=family, layers=layers, tied=tied, dtype="float32", shards=2
    )
    checked(whole)
    names = set(stored_tensors(whole) or ())
    config = json.loads((whole / "config.json").read_text())
    if family != "mixtral" or layers > 1:  # a single layer of an unknown family has no sibling
        for name in names:
            if "proj" in name or "experts" in name or "gate" in name or name == "lm_head.weight":
                if name.endswith("bias") and layers == 1:
                    continue
                assert name in set(missing_tensors(names - {name}, config, quantised=False))
    shutil.rmtree(whole)


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("gpt_neox", {}),
        ("olmo2", {}),
        ("granite", {}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [0]}),
        ("deepseek_v3", {"first_k_dense_replace": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
                         "moe_intermediate_size": 32, "kv_lora_rank": 32, "q_lora_rank": None, "qk_rope_head_dim": 16,
                         "qk_nope_head_dim": 16, "v_head_dim": 32, "num_key_value_heads": 2}),
        ("jamba", {"attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2, "num_experts": 2}),
        ("qwen3_next", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
        ("nemotron_h", {"hybrid_override_pattern": "M*-M"}),
        ("lfm2", {}),
    ],
)  # fmt: skip
def test_other_architectures_are_not_refused_wrongly(
    model_type: str, config: dict[str, object], tmp_path: Path
) -> None:
    checked(tiny_of_type(tmp_path, model_type, **config))


def modules(layers: int, tensors: tuple[str, ...], skipped: tuple[int, ...] = ()) -> set[str]:
    linear = (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    )
    names = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    for layer in range(layers):
        kept = ("weight",) if layer in skipped else tensors
        names |= {f"model.layers.{layer}.{module}.{tensor}" for module in linear for tensor in kept}
    return names


@pytest.mark.parametrize(
    "tensors",
    [
        ("qweight", "qzeros", "scales", "g_idx"),
        ("weight_packed", "weight_scale", "weight_shape"),
        ("weight", "weight_scale", "input_scale"),
        ("weight", "weight.absmax", "weight.quant_map"),
    ],
)
def test_quantised_checkpoints(tensors: tuple[str, ...]) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 4}
    for skipped in ((), (0,), (0, 3)):
        names = modules(4, tensors, skipped)
        assert not set(missing_tensors(names, config, quantised=True))
        gone = {f"model.layers.2.mlp.up_proj.{tensor}" for tensor in tensors}
        found = set(missing_tensors(names - gone, config, quantised=True))
        assert any(name.startswith("model.layers.2.mlp.up_proj") for name in found)


def test_a_layer_that_is_missing_altogether() -> None:
    names = {name for name in modules(4, ("weight",)) if ".layers.3." not in name}
    config = {"model_type": "other", "num_hidden_layers": 4}
    assert "model.layers.3.mlp.up_proj.weight" in set(missing_tensors(names, config, quantised=False))


def test_layers_beyond_the_configuration_are_no_siblings() -> None:
    names = modules(4, ("weight",)) | {"model.layers.4.eh_proj.weight", "model.layers.4.mlp.up_proj.weight"}
    assert not set(missing_tensors(names, {"model_type": "other", "num_hidden_layers": 4}, quantised=False))


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(EngineError, match="not a safetensors file"):
        checked(checkpoint)
