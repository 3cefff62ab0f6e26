"""Settings that belong to single layers follow a layer path, or are refused by name; checked on real architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.errors import BuildError
from recipes.layer_config import relayered_config
from recipes.relayer import LayerRange, write_layer_path, write_passthrough
from tests.support.tiny_checkpoints import tiny_checkpoint, tiny_of_type

PATH = (0, 1, 2, 1, 2, 3, 0)

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 8,
    "vocab_size": 16,
}


def relayered(config: dict[str, Any], path: tuple[int, ...] = PATH) -> dict[str, Any]:
    return relayered_config([(config, layer) for layer in path], config, "here")


def logits(directory: Path, layers: tuple[int, ...] | None = None) -> torch.Tensor:
    """Logits of the checkpoint, its layers rewired in memory where `layers` says so."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    if layers is not None:
        stack = list(model.model.layers)
        model.model.layers = torch.nn.ModuleList([stack[layer] for layer in layers])
        model.config.num_hidden_layers = len(layers)
        for key in ("layer_types", "no_rope_layers"):
            entries = getattr(model.config, key, None)
            if entries:
                setattr(model.config, key, [entries[layer] for layer in layers])
    ids = torch.arange(3, 40).unsqueeze(0)
    with torch.no_grad():
        return model(ids, use_cache=False).logits


HYBRIDS: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8, "sliding_window_pattern": 2},
    "smollm3": {},
    "cohere2": {"sliding_window": 8},
    "qwen3": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "olmo3": {"sliding_window": 8},
}


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("model_type", HYBRIDS)
def test_mixed_attention_follows_the_path(model_type: str, listed: bool, tmp_path: Path) -> None:
    source = tiny_of_type(tmp_path / "source", model_type, **HYBRIDS[model_type])
    config = json.loads((source / "config.json").read_text())
    kinds = config["layer_types"]
    assert model_type == "smollm3" or len(set(kinds)) == 2
    if not listed:  # as older versions of transformers wrote it: the rule alone
        for key in ("layer_types", "no_rope_layers"):
            config.pop(key, None)
        (source / "config.json").write_text(json.dumps({**config, **HYBRIDS[model_type]}))
    write_layer_path(source, PATH, tmp_path / "out")
    built = json.loads((tmp_path / "out" / "config.json").read_text())
    assert built["layer_types"] == [kinds[layer] for layer in PATH]
    assert torch.equal(logits(tmp_path / "out"), logits(source, PATH))


def test_uniform_mixtures_of_experts_are_moved(tmp_path: Path) -> None:
    for name, source in {
        "mixtral": tiny_checkpoint(tmp_path / "mixtral", family="mixtral"),
        "qwen3_moe": tiny_of_type(
            tmp_path / "qwen3", "qwen3_moe", num_experts=2, num_experts_per_tok=1, moe_intermediate_size=32
        ),
    }.items():
        write_layer_path(source, PATH, tmp_path / name / "out")
        assert torch.equal(logits(tmp_path / name / "out"), logits(source, PATH)), name


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("jamba", {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1}, "layer_period"),
        (
            "qwen3_moe",
            {"num_experts": 2, "decoder_sparse_step": 2, "num_experts_per_tok": 1},
            "decoder_sparse_step",
        ),
        (
            "deepseek_v3",
            {
                "first_k_dense_replace": 1,
                "n_routed_experts": 4,
                "n_group": 1,
                "topk_group": 1,
                "num_experts_per_tok": 1,
            },
            "first_k_dense_replace",
        ),
    ],
)
def test_rules_by_index_are_refused_by_name(
    model_type: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = tiny_of_type(tmp_path / "source", model_type, **settings)
    with pytest.raises(BuildError, match=message):
        write_layer_path(source, PATH, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_layer_path(source, (0, 1, 2, 3), tmp_path / "whole")  # nothing moves, so nothing can go wrong


def test_layers_of_different_make_without_a_list_that_says_so(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.2.extra.weight"] = torch.zeros(2)
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(BuildError, match="no list that says which layer is of which kind"):
        write_layer_path(source, PATH, tmp_path / "out")


def test_more_than_one_stack_of_layers(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source")
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    tensors["vision_tower.layers.0.weight"] = torch.zeros(2)
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(BuildError, match=r"2 stacks of layers \(.*vision_tower\.layers"):
        write_layer_path(source, PATH, tmp_path / "out")


def test_gpt2_counts_its_layers_under_another_name(tmp_path: Path) -> None:
    source = tiny_of_type(tmp_path / "source", "gpt2", n_layer=4, n_embd=64, n_head=2)
    write_layer_path(source, PATH, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["n_layer"] == len(PATH)
    assert logits(tmp_path / "out").isfinite().all()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"layer_types": ["a", "b", "c", "d"]}, {"layer_types": ["a", "b", "c", "b", "c", "d", "a"]}),
        ({"no_rope_layers": [0, 1, 1, 0]}, {"no_rope_layers": [0, 1, 1, 1, 1, 0, 0]}),
        ({"hybrid_override_pattern": "M*-E"}, {"hybrid_override_pattern": "M*-*-EM"}),
        ({"mlp_only_layers": [2]}, {"mlp_only_layers": [2, 4]}),
        ({"mlp_only_layers": []}, {"mlp_only_layers": []}),
        ({"attn_layer_indices": [0, 3]}, {"attn_layer_indices": [0, 5, 6]}),
        ({"moe_layers": [0, 1, 2, 3]}, {"moe_layers": [0, 1, 2, 3, 4, 5, 6]}),
        ({"num_kv_heads_of_layer": [1, 2, 3, 4]}, {"num_kv_heads_of_layer": [1, 2, 3, 2, 3, 4, 1]}),
        ({"eos_token_id": [1, 2, 3, 4]}, {"eos_token_id": [1, 2, 3, 4]}),
        ({"rope_scaling": {"short_factor": [1, 2, 3, 4]}}, {"rope_scaling": {"short_factor": [1, 2, 3, 4]}}),
        ({"max_window_layers": 4}, {"max_window_layers": 7}),
        ({"decoder_sparse_step": 1}, {"decoder_sparse_step": 1}),
    ],
)
def test_lists_follow_and_the_rest_stays(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    found = relayered({**LLAMA, **settings})
    assert found["num_hidden_layers"] == len(PATH)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "setting",
    [
        {"attn_layer_period": 2},
        {"moe_layer_freq": 2},
        {"first_k_dense_replace": 1},
        {"full_attention_interval": 4},
        {"num_kv_shared_layers": 2},
        {"no_rope_layer_interval": 4},
        {"hidden_size_per_layer_input": 16},
        {"per_layer_config": {"3": {"head_dim": 32}}},
    ],
)
def test_every_rule_is_named(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(BuildError, match=name):
        relayered({**LLAMA, **setting})
    assert relayered({**LLAMA, **setting}, (0, 1, 2, 3))["num_hidden_layers"] == 4


@pytest.mark.parametrize(
    ("path", "dense"), [((0, 1, 2, 3, 2, 3), 2), ((0, 0, 1, 2, 3), 3), ((2, 3), 0), ((0, 1), 2), ((1, 3), 1)]
)
def test_the_number_of_dense_first_layers_follows_a_path_that_begins_with_them(
    path: tuple[int, ...], dense: int
) -> None:
    config = {**LLAMA, "first_k_dense_replace": 2}
    assert relayered(config, path)["first_k_dense_replace"] == dense
    with pytest.raises(BuildError, match="first_k_dense_replace = 2"):
        relayered(config, (0, 2, 1, 3))


def test_layers_for_speculative_decoding_are_left_out() -> None:
    assert relayered({**LLAMA, "num_nextn_predict_layers": 1})["num_nextn_predict_layers"] == 0


def test_a_rule_that_is_written_out_beside_it_does_not_matter() -> None:
    types = ["full_attention", "linear_attention"] * 2
    found = relayered({**LLAMA, "full_attention_interval": 2, "layer_types": types})
    assert found["layer_types"] == [types[layer] for layer in PATH]


def test_a_nested_language_model_is_changed_in_its_place() -> None:
    config = {
        "architectures": ["X"],
        "model_type": "x",
        "text_config": {**LLAMA, "layer_types": ["a", "b", "c", "d"]},
    }
    found = relayered(config)
    assert found["text_config"]["num_hidden_layers"] == len(PATH)
    assert found["text_config"]["layer_types"] == ["a", "b", "c", "b", "c", "d", "a"]
    assert "num_hidden_layers" not in found


def test_sources_with_and_without_a_list(tmp_path: Path) -> None:
    older = tiny_checkpoint(tmp_path / "older", family="qwen2")
    newer = tiny_checkpoint(
        tmp_path / "newer", family="qwen2", config={"layer_types": ["full_attention"] * 4}
    )
    write_passthrough(
        [LayerRange(source=newer, start=0, end=3), LayerRange(source=older, start=1, end=4)], tmp_path / "out"
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["layer_types"] == ["full_attention"] * 6
    mixed = {**LLAMA, "layer_types": ["a", "b", "a", "b"]}
    with pytest.raises(BuildError, match="not all sources have the per-layer setting layer_types"):
        relayered_config([(LLAMA, 0), (mixed, 1)], LLAMA, "here")


def test_quantisation_that_names_layers(tmp_path: Path) -> None:
    settings = {"quant_method": "gptq", "modules_to_not_convert": ["model.layers.0.mlp"]}
    source = tiny_checkpoint(tmp_path / "source", config={"quantization_config": settings})
    with pytest.raises(BuildError, match="names single layers"):
        write_layer_path(source, PATH, tmp_path / "out")
    plain = tiny_checkpoint(tmp_path / "plain", config={"quantization_config": {"quant_method": "gptq"}})
    write_layer_path(plain, PATH, tmp_path / "out")


def test_code_of_a_checkpoint_is_not_taken_over(tmp_path: Path) -> None:
    source = tiny_checkpoint(tmp_path / "source", config={"auto_map": {"AutoConfig": "configuration_x.X"}})
    (source / "configuration_x.py").write_text("raise SystemExit")
    write_layer_path(source, PATH, tmp_path / "out")
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert not list((tmp_path / "out").glob("*.py"))


def test_an_infinite_setting_is_read_as_transformers_writes_it() -> None:
    """Bamba: a limit without end, and the numbers of its layers with attention."""
    bamba = {
        "architectures": ["BambaForCausalLM"],
        "model_type": "bamba",
        "num_hidden_layers": 4,
        "attn_layer_indices": [2],
        "time_step_limit": [0.0, {"__float__": "Infinity"}],
    }
    config = relayered(bamba)
    assert config["attn_layer_indices"] == [2, 4]
    assert config["time_step_limit"] == bamba["time_step_limit"]


def test_a_setting_that_transformers_does_not_accept_is_named() -> None:
    with pytest.raises(BuildError, match=r"does not accept its config.json.*time_step_limit"):
        relayered({"model_type": "bamba", "num_hidden_layers": 4, "time_step_limit": "none"})
