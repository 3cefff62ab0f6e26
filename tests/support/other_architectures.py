"""Settings of tiny checkpoints of decoder-only architectures that no list of mergeboard names, by `model_type`.

Those that differ from layer to layer have a layer of each kind; windows are shorter than the requests of the tests.
"""

from __future__ import annotations

from typing import Any

_WINDOW = {"sliding_window": 16}
_EXPERTS = {
    "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
    "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "num_shared_experts": 1,
    "shared_expert_intermediate_size": 64,
}  # fmt: skip
_FEW = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    "kv_lora_rank": 32, "q_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 32, "head_dim": 16,
    "num_key_value_heads": 2,
}  # fmt: skip
_DENSE_FIRST = {"first_k_dense_replace": 1}
_MAMBA = {
    "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_d_ssm": 128,
}  # fmt: skip
_DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
_GPT = {"n_embd": 64, "n_head": 2, "n_layer": 4}
_INDEXER = {"index_n_heads": 2, "index_head_dim": 32, "index_topk": 16}

OTHERS: dict[str, dict[str, Any]] = {
    "afmoe": {**_EXPERTS, **_WINDOW, "num_dense_layers": 1},
    "apertus": {},
    "arcee": {},
    "aria_text": _EXPERTS,
    "bamba": {**_MAMBA, "attn_layer_indices": [2]},
    "biogpt": {},
    "bitnet": {},
    "codegen": {**_GPT, "num_attention_heads": 4, "rotary_dim": 16},
    "cohere2_moe": {**_EXPERTS, **_WINDOW, "logit_scale": 1.0},
    "ctrl": {},
    "cwm": {},
    "deepseek_v2": {**_EXPERTS, **_LATENT, **_DENSE_FIRST},
    "deepseek_v3": {**_EXPERTS, **_LATENT, **_DENSE_FIRST},
    "deepseek_v32": {**_EXPERTS, **_LATENT, **_DENSE_FIRST, **_INDEXER},
    "diffllama": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "doge": {},
    "dots1": {**_EXPERTS, **_WINDOW, **_DENSE_FIRST},
    "ernie4_5": {},
    "ernie4_5_moe": {**_EXPERTS, "moe_layer_start_index": 1},
    "exaone4": {**_WINDOW, "num_hidden_layers": 5, "sliding_window_pattern": 4},
    "exaone_moe": {**_EXPERTS, **_WINDOW, **_DENSE_FIRST, "num_hidden_layers": 5},
    "falcon_h1": _MAMBA,
    "falcon_mamba": {},
    "flex_olmo": _EXPERTS,
    "gemma3n_text": {
        **_WINDOW, "num_hidden_layers": 5, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 384,
        "layer_types": [*["sliding_attention", "full_attention"] * 2, "sliding_attention"], "hidden_size_per_layer_input": 16,
        "activation_sparsity_pattern": [0.0] * 5, "altup_num_inputs": 2, "laurel_rank": 8,
    },
    "gemma4_text": {
        **_WINDOW, "vocab_size_per_layer_input": 384, "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0,
        "global_head_dim": 32,
    },
    "glm4_moe": {**_EXPERTS, **_DENSE_FIRST},
    "glm4_moe_lite": {**_EXPERTS, **_LATENT},
    "glm_moe_dsa": {**_EXPERTS, **_LATENT, **_INDEXER},
    "gpt_bigcode": {},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]], "num_heads": 2, "window_size": 4},
    "gptj": {**_GPT, "rotary_dim": 16},
    "granite_swa": _WINDOW,
    "granitemoehybrid": {
        **_MAMBA, **_FEW, "shared_intermediate_size": 64, "layer_types": ["mamba", "attention", "mamba", "mamba"],
    },
    "granitemoeshared": {**_FEW, "shared_intermediate_size": 64},
    "helium": {},
    "hrm_text": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "jamba": {
        **_MAMBA, "num_experts": 4, "num_experts_per_tok": 2, "mamba_dt_rank": 8, "attn_layer_period": 2, "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "jetmoe": {**_FEW, "kv_channels": 32},
    "kimi_linear": {**_EXPERTS, **_LATENT},
    "lfm2": {"full_attn_idxs": [2], "block_multiple_of": 16},
    "lfm2_moe": {**_EXPERTS, "num_dense_layers": 1, "layer_types": ["conv", "full_attention"] * 2},
    "llama4_text": {
        **_EXPERTS, "intermediate_size_mlp": 128, "interleave_moe_layer_step": 2, "attention_chunk_size": 16,
    },
    "longcat_flash": {
        **_EXPERTS, **_LATENT, "num_layers": 2, "zero_expert_num": 2, "expert_ffn_hidden_size": 64, "ffn_hidden_size": 128,
    },
    "mamba": {},
    "mamba2": {"num_heads": 4, "head_dim": 32, "state_size": 16, "n_groups": 1, "expand": 2},
    "mimo_v2_flash": {**_EXPERTS, **_WINDOW},
    "minicpm3": _LATENT,
    "minimax": {**_EXPERTS, "block_size": 16},
    "minimax_m2": _EXPERTS,
    "ministral": _WINDOW,
    "ministral3": {},
    "mpt": {"d_model": 64, "n_heads": 2, "n_layers": 4, "expansion_ratio": 2, "max_seq_len": 2048},
    "nanochat": {},
    "nemotron": {},
    "olmo": {},
    "olmo_hybrid": _DELTA,
    "openai-gpt": {},
    "persimmon": {},
    "phimoe": _EXPERTS,
    "qwen3_5_moe_text": {**_EXPERTS, **_DELTA},
    "qwen3_5_text": _DELTA,
    "qwen3_next": {**_EXPERTS, **_DELTA},
    "recurrent_gemma": {},
    "rwkv": {},
    "seed_oss": {},
    "solar_open": _EXPERTS,
    "vaultgemma": _WINDOW,
    "xglm": {"d_model": 64, "num_layers": 4, "attention_heads": 2, "ffn_dim": 128},
    "xlstm": {},
    "youtu": _LATENT,
}  # fmt: skip
