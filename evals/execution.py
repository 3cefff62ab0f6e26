"""Execution mode, attention backend and batch invariance: an engine's defaults and what it cannot run."""

from __future__ import annotations

from typing import Any

from evals.engine import (
    AUTO_ATTENTION,
    DeviceKind,
    EngineKind,
    EngineSpec,
    ExecutionMode,
    InstalledEngine,
)
from evals.errors import EngineError
from evals.live_paths import LIVE_FAMILIES

CPU_ATTENTION = "CPU_ATTN"
FLASH_ATTENTION = "FLASH_ATTN"
TRITON_ATTENTION = "TRITON_ATTN"
_FLASH_MAX_HEAD = 256
_FLASH_MAJORS = (8, 9, 12)
"""Compute capabilities on which vLLM prefers FlashAttention (`vllm/platforms/cuda.py`); on 10 it prefers FlashInfer."""
NO_CPU_KERNEL = {"fp8": "its static_scaled_fp8_quant is empty"}
"""vLLM's names of methods that were tried in its CPU build and do not start, with what it lacks."""

_INVARIANT_CAPABILITY = (8, 0)
"""Minimum for vLLM's batch-invariant matrix products (`enable_batch_invariant_mode`)."""


def default_execution(kind: EngineKind, device: DeviceKind) -> ExecutionMode:
    """Graphs for vLLM on GPUs, for live and for built layer paths, so that both run the same kernels; otherwise eager."""
    return (
        ExecutionMode.GRAPHS
        if kind is EngineKind.VLLM and device is not DeviceKind.CPU
        else ExecutionMode.EAGER
    )


def planned_attention(
    installed: InstalledEngine, *, dtype: str, kv_cache_dtype: str, model_type: str, head_dim: int | None
) -> str:
    """The attention backend that vLLM chooses for a checkpoint; 'auto' if only the running engine knows.

    It is known on CPUs and, on CUDA, for dense families with plain attention. FlashAttention supports 16-bit types only, so
    float32 runs Triton's kernel.
    """
    if installed.kind is not EngineKind.VLLM:
        return AUTO_ATTENTION
    if installed.device is DeviceKind.CPU:
        return CPU_ATTENTION
    plain = model_type in LIVE_FAMILIES and kv_cache_dtype == "auto" and head_dim is not None
    if installed.device is not DeviceKind.CUDA or not plain or head_dim is None:
        return AUTO_ATTENTION
    if dtype == "float32":
        return TRITON_ATTENTION
    capability = installed.compute_capability
    flash = capability is not None and capability[0] in _FLASH_MAJORS
    return FLASH_ATTENTION if flash and head_dim % 8 == 0 and head_dim <= _FLASH_MAX_HEAD else AUTO_ATTENTION


def require_runnable(spec: EngineSpec, installed: InstalledEngine) -> None:
    """Raise EngineError for an execution mode or option that this engine does not support."""
    if spec.execution is not None and spec.execution is not ExecutionMode.EAGER:
        if spec.kind is EngineKind.TRANSFORMERS:
            raise EngineError(
                f"The transformers engine has no execution mode {spec.execution}: leave the mode out, or use the vllm engine."
            )
        if installed.device is DeviceKind.CPU:
            raise EngineError(
                f"vLLM on a CPU runs eager, not {spec.execution}: leave the mode out, or run on a cluster with GPUs."
            )
    if spec.quantization is not None and spec.kind is EngineKind.TRANSFORMERS:
        raise EngineError(
            f"The transformers engine does not run quantised weights ({spec.quantization}): use the vllm engine, or a "
            "checkpoint that is not quantised."
        )
    if (
        spec.kind is EngineKind.VLLM
        and installed.device is DeviceKind.CPU
        and spec.quantization in NO_CPU_KERNEL
    ):
        raise EngineError(
            f"vLLM's CPU build has no kernel for weights quantised with {spec.quantization} ({NO_CPU_KERNEL[spec.quantization]}): use a "
            "copy in compressed-tensors (int8 or int4) or GPTQ, one that is not quantised, or a cluster with GPUs."
        )
    if spec.batch_invariant:
        _require_invariance(spec, installed)
    if spec.attention_backend == FLASH_ATTENTION and spec.dtype == "float32":
        raise EngineError(
            "FlashAttention takes float16 and bfloat16 only: with float32 leave the attention backend out "
            f"or set it to {TRITON_ATTENTION}."
        )


def _require_invariance(spec: EngineSpec, installed: InstalledEngine) -> None:
    """Raise EngineError unless the requirements of `VLLM_BATCH_INVARIANT` are met."""
    if spec.kind is EngineKind.TRANSFORMERS:
        raise EngineError(
            "The transformers engine has no batch-invariant kernels: ask for none, or use the vllm engine."
        )
    if installed.device is DeviceKind.CPU:
        raise EngineError(
            "vLLM has batch-invariant kernels for GPUs only, and this is its CPU build: ask for none, or run "
            "on a cluster with GPUs."
        )
    capability = installed.compute_capability
    if capability is not None and capability < _INVARIANT_CAPABILITY:
        raise EngineError(
            f"vLLM's batch-invariant kernels need a GPU of compute capability 8.0 or more, and this one has "
            f"{capability[0]}.{capability[1]}: ask for none, or use other GPUs."
        )
    if spec.execution is ExecutionMode.COMPILED:
        raise EngineError(
            "vLLM turns torch.compile off where its batch-invariant kernels need it: use the execution mode graphs with "
            "them."
        )


def require_installed(spec: EngineSpec, installed: InstalledEngine) -> None:
    """Raise EngineError if the installed engine differs from the specification or cannot run it."""
    if spec.version != installed.version:
        raise EngineError(
            f"The specification asks for {spec.kind} {spec.version} and {installed.version} is installed: "
            "install that version, or plan the job anew with this one."
        )
    if spec.device is not None and spec.device is not installed.device:
        raise EngineError(
            f"The specification asks for {spec.kind} on {spec.device} and here it runs on {installed.device}: "
            "run the job on such a device, or plan it anew for this one."
        )
    require_runnable(spec, installed)


def completed(spec: EngineSpec, installed: InstalledEngine) -> EngineSpec:
    """The specification with unset options replaced by the defaults of the installed engine."""
    defaults: dict[str, Any] = {
        "device": installed.device,
        "execution": default_execution(spec.kind, installed.device),
        "attention_backend": AUTO_ATTENTION,
        "batch_invariant": False,
    }
    return spec.model_copy(
        update={name: value for name, value in defaults.items() if getattr(spec, name) is None}
    )


def with_backend(spec: EngineSpec, chosen: str) -> EngineSpec:
    """The specification with the attention backend that the engine runs; EngineError if it requires another."""
    required = spec.attention_backend
    if required not in (None, AUTO_ATTENTION, chosen):
        raise EngineError(
            f"The specification asks for the attention backend {required} and {spec.kind} runs {chosen}: "
            f"plan the job anew, or set `attention_backend: {chosen}`."
        )
    return spec.model_copy(update={"attention_backend": chosen})
