"""What layers keep of a sequence, by config.json alone, is what transformers' configurations say."""

from __future__ import annotations

from typing import Any

import pytest

from recipes.config_facts import ConfigFacts
from recipes.layer_state import keeps_keys, layer_kinds, state_bytes

LAYERS = 13
PLAIN: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 4096},
    "gemma3_text": {"sliding_window": 512},
    "cohere2": {"sliding_window": 4096},
    "olmo3": {"sliding_window": 4096},
    "gpt_oss": {"sliding_window": 128},
    "qwen3_next": {"full_attention_interval": 4},
    "qwen3_5_text": {"full_attention_interval": 4},
    "qwen2": {"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 5},
}
"""Configs without `layer_types`, as older files are."""


@pytest.mark.parametrize("model_type", PLAIN)
def test_rules_are_those_of_transformers(model_type: str) -> None:
    from transformers import CONFIG_MAPPING

    values = {"num_hidden_layers": LAYERS, **PLAIN[model_type]}
    expected = CONFIG_MAPPING[model_type](**values)
    assert layer_kinds(values, model_type, LAYERS) == tuple(expected.layer_types)
    listed = {"layer_types": list(expected.layer_types)}
    assert layer_kinds(listed, model_type, LAYERS) == tuple(expected.layer_types)


def test_a_window_of_all_layers_or_none() -> None:
    assert set(layer_kinds({"sliding_window": 4096}, "mistral", 2)) == {"sliding_attention"}
    assert layer_kinds({"sliding_window": None}, "mistral", 2) == ()
    assert layer_kinds({"sliding_window": 4096, "use_sliding_window": False}, "qwen2", 2) == ()
    assert layer_kinds({}, "llama", 2) == ()


def test_what_has_keys_and_values() -> None:
    kinds = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention", "mamba", "conv")
    assert [keeps_keys(kind) for kind in kinds] == [True, True, True, False, False, False]


def test_state_of_a_gated_delta_net() -> None:
    """Qwen3-Next-80B-A3B: 32 x 128 x 128 numbers and three columns of 8,192 before them."""
    config = {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 151936, "intermediate_size": 5120,
        "full_attention_interval": 4, "linear_num_value_heads": 32, "linear_num_key_heads": 16, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "tie_word_embeddings": False,
    }  # fmt: skip
    facts = ConfigFacts.from_config(config, "here")
    assert facts.layer_types.count("full_attention") == 12
    assert facts.state_bytes == state_bytes(config) == 4 * (32 * 128 * 128 + 3 * 8192)
