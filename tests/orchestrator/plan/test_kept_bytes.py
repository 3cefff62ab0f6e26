"""Memory of an engine for layers with a window or a state, by config.json alone and counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from evals.engine import EngineKind, EngineSpec
from orchestrator.plan.candidate import Candidate
from orchestrator.plan.estimate import EngineNeed, engine_need
from orchestrator.plan.job import CheckpointPlace
from orchestrator.plan.sizing import _shape
from recipes.config_facts import ConfigFacts
from recipes.layer_path import LayerPath
from recipes.sources import facts_from_config

LENGTH = 8192
GEMMA2: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336,
    "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
    "sliding_window": 4096,
}  # fmt: skip
GEMMA3 = GEMMA2 | {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 34, "sliding_window": 1024,
    "sliding_window_pattern": 6, "num_key_value_heads": 4,
}  # fmt: skip
GPT_OSS = GEMMA2 | {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "num_hidden_layers": 24, "sliding_window": 128, "head_dim": 64,
    "layer_types": ["sliding_attention", "full_attention"] * 12, "num_local_experts": 32, "num_experts_per_tok": 4,
}  # fmt: skip
QWEN3_NEXT = GEMMA2 | {
    "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "num_hidden_layers": 48, "sliding_window": None,
    "num_key_value_heads": 2, "full_attention_interval": 4, "linear_num_value_heads": 32, "linear_num_key_heads": 16,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
}  # fmt: skip
STATE = 4 * (32 * 128 * 128 + 3 * 8192)


def need(config: dict[str, Any], path: str | None = None, *, live: bool = False) -> EngineNeed:
    facts = facts_from_config(ConfigFacts.from_config(config, "config.json"))
    layers = config["num_hidden_layers"]
    resolved = LayerPath.parse(path, layers) if path else None
    candidate = Candidate(
        name="c",
        place=CheckpointPlace(name="c"),
        weights_digest="w",
        layer_path=resolved.layers if resolved else None,
        source_layers=layers,
        layers=len(resolved.layers) if resolved else layers,
    )
    spec = EngineSpec(kind=EngineKind.VLLM, version="1", dtype="bfloat16", max_length=LENGTH)
    return engine_need(_shape(candidate, facts, live), spec)


@pytest.mark.parametrize(
    ("config", "full", "windowed", "state"),
    [
        (GEMMA2, 21, 21, 0),
        (GEMMA3, 5, 29, 0),
        (GPT_OSS, 12, 12, 0),
        (QWEN3_NEXT, 12, 0, 36 * STATE),
    ],
    ids=["gemma2", "gemma3", "gpt_oss", "qwen3_next"],
)
def test_kept_bytes_of_the_longest_sequence(
    config: dict[str, Any], full: int, windowed: int, state: int
) -> None:
    """Keys and values of full layers for all tokens, of windowed ones for the window, and the states of linear ones."""
    of_token = 2 * config["num_key_value_heads"] * config["head_dim"] * 2
    kept = of_token * (full * LENGTH + windowed * (config["sliding_window"] or 0)) + state
    assert need(config).kv_bytes_per_token == -(-kept // LENGTH)


def test_a_built_path_keeps_what_its_layers_keep() -> None:
    """Two further layers with a window, or one of each kind."""
    of_token = 2 * 8 * 256 * 2
    base = need(GEMMA2).kv_bytes_per_token
    assert need(GEMMA2, "repeat:0*2;2*2").kv_bytes_per_token == base + of_token  # 2 x half of the tokens
    assert need(GEMMA2, "(0, 2)").kv_bytes_per_token == base + of_token * 3 // 2


def test_visits_of_mlps_alone_need_no_further_cache() -> None:
    llama = GEMMA2 | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "sliding_window": None}
    of_token = 2 * 8 * 256 * 2
    base = need(llama, live=True)
    assert need(llama, "(3, 5):mlp", live=True).kv_bytes_per_token == base.kv_bytes_per_token
    assert need(llama, "(3, 5):attention", live=True).kv_bytes_per_token == 44 * of_token
    assert need(llama, "(3, 5)", live=False).kv_bytes_per_token == 44 * of_token
