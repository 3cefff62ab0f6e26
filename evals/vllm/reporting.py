"""Reports a worker's execution mode and attention backend after the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm.config import CompilationMode, CUDAGraphMode, VllmConfig, get_layers_from_vllm_config
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.platforms import current_platform

from evals.engine import ExecutionMode
from evals.vllm.reloading import ReplacesWeights

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
else:
    from vllm.v1.worker.gpu_worker import Worker as _Worker


@dataclass(frozen=True)
class RunningEngine:
    """Execution mode and attention backends of one worker."""

    execution: ExecutionMode | None
    """None if vLLM runs a combination that is none of the execution modes; `detail` names it."""
    attention: str
    """Names of the attention backends of its layers, in alphabetical order."""
    captured: bool | None
    """Whether CUDA graphs are captured; None if the runner does not report it."""
    detail: str
    """vLLM's names of the compilation mode and CUDA graph mode."""


class ReportsExecution:
    """Mixin for vLLM's workers that reports the mode after all of vLLM's overrides."""

    vllm_config: VllmConfig
    model_runner: Any

    def running_engine(self) -> RunningEngine:
        """Mode, graphs and attention backends of this worker's model."""
        compilation = self.vllm_config.compilation_config
        mode, graphs = compilation.mode, compilation.cudagraph_mode
        layers = get_layers_from_vllm_config(self.vllm_config, AttentionLayerBase)
        manager = getattr(self.model_runner, "cudagraph_manager", None)
        return RunningEngine(
            execution=_execution(mode, graphs),
            attention=", ".join(sorted({layer.get_attn_backend().get_name() for layer in layers.values()})),
            captured=None if manager is None else bool(manager.graphs),
            detail=f"compilation mode {mode.name}, CUDA graphs {graphs.name}",
        )


class BuiltWorker(ReportsExecution, ReplacesWeights, _Worker):
    """The platform's worker for engines without layer paths."""


def _execution(mode: CompilationMode, graphs: CUDAGraphMode) -> ExecutionMode | None:
    if mode == CompilationMode.VLLM_COMPILE:
        return ExecutionMode.COMPILED
    if mode != CompilationMode.NONE:
        return None
    if graphs == CUDAGraphMode.NONE:
        return ExecutionMode.EAGER
    return ExecutionMode.GRAPHS if graphs.has_full_cudagraphs() else None
