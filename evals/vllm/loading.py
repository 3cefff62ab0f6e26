"""Plans and starts a vLLM engine from an engine specification."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from evals.checkpoint_config import read_config
from evals.checkpoint_settings import constant_rope_length
from evals.engine import AUTO_ATTENTION, DeviceKind, EngineKind, EngineSpec, EngineTuning, ExecutionMode
from evals.errors import EngineError
from evals.execution import CPU_ATTENTION, default_execution, with_backend
from evals.faults import start_error
from evals.live_paths import has_plain_layers, layer_count
from evals.quantization import DEPRECATED_METHODS, stored_quantization
from evals.transformers.weight_shapes import require_weight_shapes
from evals.vllm.environment import answer_for_cpu_build, environment, process_settings, quiet_vllm
from evals.weight_names import require_all_weights

if TYPE_CHECKING:
    from vllm import LLM

    from evals.vllm.reporting import RunningEngine

GIB = 1 << 30
BLOCK_CPU = 32
"""The CPU kernel's smallest block; prompts share only full blocks, so that small blocks are faster."""
BATCH_CPU = 64
BATCH_CUDA = 256
TOKENS_PER_STEP_CPU = 2048
KV_TOKENS_CPU = 32768
"""Default KV cache size on a CPU, in tokens; the longest sequence if that is more."""
GRAPHS: dict[str, Any] = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
"""vLLM's `CompilationConfig` for ExecutionMode.GRAPHS: no torch.compile (mode 0), and graphs of decode steps only, which every
attention backend with graph support supports."""
_SIZE_KEYS = (("hidden_size", "n_embd", "d_model"), ("num_attention_heads", "n_head"))
KV_SHARE_CPU = 0.25
"""Maximum share of the free memory for the default KV cache on a CPU."""


@dataclass(frozen=True)
class StartSettings:
    """Settings and vLLM arguments of an engine."""

    cpu: bool
    live: bool
    execution: ExecutionMode
    batch_invariant: bool
    threads: int
    kv_cache_bytes: int | None
    arguments: dict[str, Any]


def plan_engine(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> StartSettings:
    """Settings for this machine, without loading anything; EngineError if the checkpoint contradicts the specification."""
    config = read_config(checkpoint)
    require_all_weights(checkpoint, config)
    require_weight_shapes(checkpoint, config)
    stored = stored_quantization(checkpoint, config)
    if stored and spec.quantization != stored:
        raise EngineError(
            f"{checkpoint} is stored quantised ({stored}) and the engine specification says "
            f"{spec.quantization or 'that it is not'}: set quantization to {stored}, because it affects the scores."
        )
    cpu = answer_for_cpu_build()
    threads = tuning.threads or len(os.sched_getaffinity(0))
    execution = spec.execution or default_execution(
        EngineKind.VLLM, DeviceKind.CPU if cpu else DeviceKind.CUDA
    )
    tested = has_plain_layers(config)
    live = tuning.sets_paths or (tested and cpu)
    if live and execution is ExecutionMode.COMPILED:
        raise EngineError(
            f"A compiled engine cannot run live layer paths, and live paths of {checkpoint} are requested: leave "
            "`execution: compiled` out, or build the paths with `materialize: true`."
        )
    arguments: dict[str, Any] = {
        "model": str(checkpoint),
        "dtype": spec.dtype,
        # vLLM reads the stored quantisation from the checkpoint's config and chooses the kernel by it.
        "quantization": None if stored else spec.quantization,
        "allow_deprecated_quantization": stored in DEPRECATED_METHODS,
        "kv_cache_dtype": spec.kv_cache_dtype,
        "tensor_parallel_size": spec.tensor_parallel,
        "max_model_len": _longest(spec, config),
        "trust_remote_code": spec.trust_remote_code,
        "seed": 0,
        "max_num_seqs": tuning.batch_size or (BATCH_CPU if cpu else BATCH_CUDA),
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "enforce_eager": execution is ExecutionMode.EAGER,
        "worker_cls": "evals.vllm.worker.LiveWorker" if live else "evals.vllm.reporting.BuiltWorker",
    }
    if execution is ExecutionMode.GRAPHS:
        arguments["compilation_config"] = GRAPHS
    if spec.attention_backend not in (None, AUTO_ATTENTION, CPU_ATTENTION):
        arguments["attention_backend"] = spec.attention_backend
    if spec.tensor_parallel > 1:
        # All GPUs of an engine are on one node; otherwise vLLM would use the surrounding Ray cluster.
        arguments["distributed_executor_backend"] = "mp"
    if live:
        arguments["additional_config"] = {"extra_layer_slots": tuning.extra_layer_slots}
        if not tested:
            # Layers with a window get KV caches of full length, so that every layer can use every slot.
            arguments["disable_hybrid_kv_cache_manager"] = True
    if tuning.block_size or cpu:
        arguments["block_size"] = tuning.block_size or BLOCK_CPU
    kv_cache_bytes = None
    if cpu:
        kv_cache_bytes = _kv_cache_bytes(spec, config, tuning)
        arguments |= {"kv_cache_memory_bytes": kv_cache_bytes, "max_num_batched_tokens": TOKENS_PER_STEP_CPU}
    else:
        arguments["gpu_memory_utilization"] = tuning.gpu_memory_share
    return StartSettings(cpu, live, execution, bool(spec.batch_invariant), threads, kv_cache_bytes, arguments)


def _longest(spec: EngineSpec, config: dict[str, Any]) -> int | None:
    """Longest sequence for which vLLM's rotary factors equal transformers'; with a longer limit they differ for every sequence."""
    limit = constant_rope_length(config)
    return spec.max_length if limit is None else min(spec.max_length or limit, limit)


def head_size(config: dict[str, Any]) -> int | None:
    """Size of one attention head; None if the configuration does not say it, or it is not one number (latent attention)."""
    config = config.get("text_config") or config
    if config.get("kv_lora_rank"):
        return None
    if isinstance(config.get("head_dim"), int):
        return int(config["head_dim"])
    hidden, heads = (
        next((config[k] for k in keys if isinstance(config.get(k), int)), 0) for keys in _SIZE_KEYS
    )
    return hidden // heads if hidden and heads else None


def kv_bytes_per_token(spec: EngineSpec, config: dict[str, Any], layers: int) -> int:
    """KV cache size of one token in this many layers, in bytes."""
    text = config.get("text_config") or config
    heads = text.get("num_attention_heads") or text.get("n_head") or 1
    kv_heads = text.get("num_key_value_heads") or heads
    size = 4 if spec.dtype == "float32" else 2
    return 2 * layers * kv_heads * (head_size(config) or 0) * (size if spec.kv_cache_dtype == "auto" else 1)


def _kv_cache_bytes(spec: EngineSpec, config: dict[str, Any], tuning: EngineTuning) -> int:
    if tuning.kv_cache_gib is not None:
        return int(tuning.kv_cache_gib * GIB)
    layers = (layer_count(config) or 0) + tuning.extra_layer_slots
    longest = _longest(spec, config) or int(config.get("max_position_embeddings") or KV_TOKENS_CPU)
    default = kv_bytes_per_token(spec, config, layers) * max(KV_TOKENS_CPU, longest + 4 * BLOCK_CPU)
    free = int(psutil.virtual_memory().available * KV_SHARE_CPU)
    return max(min(default or GIB, free), 64 << 20)


def weight_bytes(checkpoint: Path, spec: EngineSpec) -> int | None:
    """Size of the weights in bytes, in the engine's dtype or as stored if quantised; None without safetensors files.

    Read from the files, because on a CPU vLLM packs the weights into buffers that are not parameters.
    """
    from safetensors import safe_open

    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        return None
    if spec.quantization:
        return sum(file.stat().st_size for file in files)
    numbers = 0
    for file in files:
        with safe_open(file, framework="numpy") as tensors:
            numbers += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118  # no mapping
    return numbers * (4 if spec.dtype == "float32" else 2)


def start(spec: EngineSpec, checkpoint: Path, plan: StartSettings) -> LLM:
    """Start an engine in this process; EngineStartError with the end of vLLM's log if it fails."""
    import torch

    if plan.cpu:
        torch.set_num_threads(plan.threads)
    settings = process_settings(
        plan.cpu, plan.threads, spec.tensor_parallel, plan.execution, batch_invariant=plan.batch_invariant
    )
    with environment(settings), quiet_vllm() as log:
        from vllm import LLM

        if plan.cpu:
            require_cpu_kernel(checkpoint, read_config(checkpoint))
            _register_in_process(read_config(checkpoint))
        set_num_threads = torch.set_num_threads
        try:
            return LLM(**plan.arguments)
        except Exception as error:
            # vLLM raises a bare Exception if a tensor-parallel worker does not start.
            raise start_error(checkpoint, error, log.tail()) from error
        finally:
            # The CPU worker replaces this function for the whole process.
            torch.set_num_threads = set_num_threads


def require_cpu_kernel(checkpoint: Path, config: dict[str, Any]) -> None:
    """Raise EngineError if vLLM's CPU build has no attention kernel for the checkpoint's head size; it would end the process."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    size = head_size(config)
    sizes = CPUAttentionBackend.get_supported_head_sizes()
    if size is not None and size not in sizes:
        raise EngineError(
            f"{checkpoint} has attention heads of size {size}, for which vLLM's CPU build has no kernel (it has "
            f"{', '.join(map(str, sizes))}): use the transformers engine, or a GPU."
        )


def running_spec(
    spec: EngineSpec, plan: StartSettings, workers: Sequence[RunningEngine], quantization: str | None = None
) -> EngineSpec:
    """The specification with the running attention backend; EngineError if another mode or backend runs."""
    running = workers[0]
    if any(worker != running for worker in workers):
        raise EngineError(
            f"The workers of this engine differ ({running}; {next(w for w in workers if w != running)}): "
            "run it on GPUs of one kind."
        )
    if quantization is not None and spec.quantization is None:
        raise EngineError(
            f"vLLM runs the weights quantised ({quantization}) and the engine specification says that they are not: plan the "
            "job again, or check the checkpoint's configuration files."
        )
    if running.execution is not plan.execution:
        raise EngineError(
            f"The engine was to run {plan.execution} and vLLM chose {running.detail} with the attention backend "
            f"{running.attention}: set another `execution`, for example eager."
        )
    if plan.execution is ExecutionMode.GRAPHS and not plan.live and running.captured is False:
        raise EngineError(
            "The engine was to run with CUDA graphs and vLLM captured none: set `execution: eager`."
        )
    return with_backend(spec, running.attention)


def _register_in_process(config: dict[str, Any]) -> None:
    """Register the architecture's class directly, which saves vLLM's inspection subprocess (15 s)."""
    import importlib

    from vllm.model_executor.models import ModelRegistry

    name = (config.get("architectures") or [""])[0]
    lazy = ModelRegistry.models.get(name)
    module_name, class_name = getattr(lazy, "module_name", None), getattr(lazy, "class_name", None)
    if not module_name or not class_name:
        return
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return  # vLLM reports it
    ModelRegistry.register_model(name, getattr(module, class_name))


def stop(llm: LLM) -> None:
    """Stop the engine's processes and free its memory, so that another can start in this process."""
    import gc

    llm.llm_engine.engine_core.shutdown()
    del llm
    gc.collect()
