"""What mergeboard relies on in vLLM, checked against its sources: an upgrade is told what it breaks before it runs.

Imports, calls, overridden methods and environment variables are read off `evals/vllm` itself (`our_use.py`); this file adds
what no import shows: attributes that are reached through objects, and the arguments of an engine.
"""

from __future__ import annotations

from collections.abc import Iterator

from evals.live_paths import LIVE_FAMILIES
from tests.gpu_runner.our_use import calls_of, environment_variables, imports_of, our_modules, overrides_of
from tests.gpu_runner.sources import Missing, Sources

MEMBERS: dict[tuple[str, str], str] = {
    ("vllm.entrypoints.llm", "LLM"): "llm_engine model_config",
    ("vllm.v1.engine.llm_engine", "LLMEngine"): "vllm_config engine_core",
    ("vllm.v1.engine.core_client", "InprocClient"): "engine_core",
    ("vllm.config", "VllmConfig"): (
        "cache_config model_config scheduler_config parallel_config compilation_config attention_config additional_config "
        "use_v2_model_runner"
    ),
    ("vllm.config", "CacheConfig"): "num_gpu_blocks block_size kv_sharing_fast_prefill",
    ("vllm.config", "ModelConfig"): "max_model_len dtype enforce_eager",
    ("vllm.config", "SchedulerConfig"): "async_scheduling disable_hybrid_kv_cache_manager",
    ("vllm.config", "CompilationConfig"): "mode cudagraph_mode static_forward_context",
    ("vllm.sampling_params", "SamplingParams"): (
        "prompt_logprobs prompt_logprob_token_ids prompt_logprob_start logprob_token_ids skip_reading_prefix_cache output_kind"
    ),
    ("vllm.outputs", "RequestOutput"): (
        "request_id finished outputs num_cached_tokens prompt_logprobs prompt_token_id_logprobs"
    ),
    ("vllm.outputs", "CompletionOutput"): "text token_ids logprobs finish_reason",
    ("vllm.logprobs", "Logprob"): "logprob rank",
    ("vllm.v1.outputs", "LogprobsTensors"): "logprob_token_ids logprobs selected_token_ranks",
    ("vllm.v1.worker.gpu_worker", "Worker"): "model_runner vllm_config device",
    ("vllm.v1.worker.gpu.model_runner", "GPUModelRunner"): (
        "kv_cache_config attn_groups cudagraph_manager prompt_logprobs_worker"
    ),
    ("vllm.v1.worker.gpu.cudagraph_utils", "CudaGraphManager"): "graphs pool cudagraph_mode device",
    ("vllm.v1.kv_cache_interface", "KVCacheConfig"): "kv_cache_groups num_blocks",
    ("vllm.v1.kv_cache_interface", "KVCacheGroupSpec"): "kv_cache_spec layer_names",
    ("vllm.v1.worker.utils", "AttentionGroup"): "backend layer_names",
    ("vllm.model_executor.layers.attention", "Attention"): (
        "num_heads head_size head_size_v num_kv_heads impl sliding_window layer_name attn_type attn_backend kv_cache "
        "kv_cache_dtype kv_sharing_target_layer_name"
    ),
}
"""Attributes by (module, class)."""

METHODS: dict[tuple[str, str], dict[str, str]] = {
    ("vllm.entrypoints.llm", "LLM"): {
        "collective_rpc": "method args kwargs",
        "reset_prefix_cache": "",
        "get_tokenizer": "",
    },
    ("vllm.v1.engine.llm_engine", "LLMEngine"): {
        "add_request": "request_id prompt params",
        "step": "",
        "abort_request": "request_ids",
        "has_unfinished_requests": "",
    },
    ("vllm.v1.engine.core_client", "InprocClient"): {"shutdown": ""},
    ("vllm.config", "ModelConfig"): {
        "try_get_generation_config": "",
        "get_vocab_size": "",
        "get_hidden_size": "",
    },
    ("vllm.sampling_params", "SamplingParams"): {"clone": ""},
    ("vllm.v1.worker.gpu_worker", "Worker"): {
        "load_model": "",
        "reload_weights": "weights_iterator",
        "determine_available_memory": "",
    },
    ("vllm.v1.worker.gpu.model_runner", "GPUModelRunner"): {
        "get_model": "",
        "capture_model": "",
        "reload_weights": "weights_iterator",
    },
    ("vllm.v1.worker.gpu.cudagraph_utils", "CudaGraphManager"): {
        "release_graphs": "",
        "needs_capture": "",
        "dispatch": "num_reqs num_tokens",
        "run_fullgraph": "desc",
    },
    ("vllm.v1.worker.gpu.sample.prompt_logprob", "PromptLogprobsWorker"): {
        "compute_prompt_logprobs": "logits_fn hidden_states input_batch",
        "compute_prompt_token_id_logprobs": "logits_fn hidden_states input_batch prompt_lens",
    },
    ("vllm.v1.worker.utils", "AttentionGroup"): {"get_metadata_builder": ""},
    ("vllm.v1.attention.backend", "AttentionMetadataBuilder"): {
        "build": "common_prefix_len common_attn_metadata"
    },
    ("vllm.model_executor.layers.attention", "Attention"): {"process_weights_after_loading": "act_dtype"},
}
"""Parameters of methods by (module, class)."""


def breaches(sources: Sources, engine_arguments: set[str]) -> list[str]:
    """Everything that we use and the sources do not have, one sentence each."""
    checks = (
        _imports(sources),
        _calls(sources),
        _overrides(sources),
        _environment(sources),
        _members(sources),
        _methods(sources),
        _engine_arguments(sources, engine_arguments),
        _families(sources),
    )
    return [breach for check in checks for breach in check]


def _imports(sources: Sources) -> Iterator[str]:
    for file, tree in our_modules().items():
        for used in imports_of(file, tree):
            try:
                sources.find(used.module, used.name)
            except Missing as missing:
                yield f"{used.place} imports {used.name} from {used.module}: {missing}."


def _calls(sources: Sources) -> Iterator[str]:
    for file, tree in our_modules().items():
        for call in calls_of(file, tree):
            used = call.imported
            try:
                parameters = sources.parameters(sources.find(used.module, used.name))
            except Missing:
                continue  # an import that fails is told by _imports
            refusal = parameters.refuses(call.positional, set(call.named), complete=call.complete)
            if refusal:
                yield f"{call.place} calls {used.name} of {used.module}, which {refusal}."


def _overrides(sources: Sources) -> Iterator[str]:
    for file, tree in our_modules().items():
        for override in overrides_of(file, tree):
            try:
                sources.method(sources.find(override.base.module, override.base.name), override.method)
            except Missing as missing:
                yield f"{override.place} overrides {override.method}: {missing}."


def _environment(sources: Sources) -> Iterator[str]:
    known = sources.text("vllm/envs.py").decode()
    for name, place in environment_variables().items():
        if f'"{name}"' not in known:
            yield f"{place} sets {name}: vllm.envs does not read it."


def _members(sources: Sources) -> Iterator[str]:
    for (module, name), attributes in MEMBERS.items():
        try:
            members = sources.members(sources.find(module, name))
        except Missing as missing:
            yield f"{name}: {missing}."
            continue
        lost = sorted(set(attributes.split()) - members)
        if lost:
            yield f"{module}.{name} has no {', '.join(lost)}."


def _methods(sources: Sources) -> Iterator[str]:
    for (module, name), methods in METHODS.items():
        for method, arguments in methods.items():
            try:
                parameters = sources.method(sources.find(module, name), method)
            except Missing as missing:
                yield f"{name}.{method}: {missing}."
                continue
            refusal = parameters.refuses(0, set(arguments.split()), complete=False)
            if refusal:
                yield f"{module}.{name}.{method} {refusal}."


def _engine_arguments(sources: Sources, arguments: set[str]) -> Iterator[str]:
    try:
        own = sources.parameters(sources.find("vllm", "LLM"))
        further = sources.parameters(sources.find("vllm.engine.arg_utils", "EngineArgs"))
    except Missing as missing:
        yield f"LLM's arguments: {missing}."
        return
    lost = sorted(arguments - set(own.names) - set(further.names if own.takes_any_name else ()))
    if lost:
        yield f"LLM and EngineArgs have no {', '.join(lost)}."


def _families(sources: Sources) -> Iterator[str]:
    """Layer slots replace `model.model.layers` and an attention's `self_attn.attn` in every live family."""
    for family, architecture in LIVE_FAMILIES.items():
        try:
            model = sources.find(f"vllm.model_executor.models.{family}", architecture)
        except Missing as missing:
            yield f"{architecture}: {missing}."
            continue
        if "model" not in sources.members(model):
            yield f"{model.place} has no attribute model."
