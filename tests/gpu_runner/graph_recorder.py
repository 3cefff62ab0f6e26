"""A stand-in for CUDA graphs on CPU tensors: what is captured is every operation with its arguments, as a GPU's graph has it.

A replay runs no Python of the model: it repeats the recorded operations on the recorded tensors, by reference, and with the
numbers that the host knew at capture. Whatever depends on a host value that changes from step to step is therefore wrong at
replay, as on a GPU, and a read of a tensor's value by the host fails at capture, as on a GPU. vLLM's Triton attention, whose metadata are persistent
buffers, takes the place of the CPU's attention, whose metadata are made anew on the host for every step.

Operations of torch and of vLLM's libraries are seen through a dispatch mode; kernels of Triton, which the interpreter runs, at
their launch. What this does not show: streams, memory pools, kernels that choose their shape on the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SIZES = [1, 2, 4, 8]
ATTENTION = "vllm.v1.attention.backends.triton_attn.TritonAttentionBackend"


class RecordedGraph:
    """Takes the place of torch.cuda.CUDAGraph."""

    made = 0
    replays = 0
    broken = False
    """Whether the next capture fails, as for want of memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.steps: list[Any] = []
        RecordedGraph.made += 1

    def replay(self) -> None:
        """Repeat what was recorded."""
        RecordedGraph.replays += 1
        with torch.inference_mode():
            for step in self.steps:
                step()


class _Recorder(TorchDispatchMode):
    """Records operations while it is active."""

    active: _Recorder | None = None

    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inside = _INSIDE.get(func._schema.name)
        if inside is not None:
            # What Python does in these operations of vLLM's is done at capture and not at replay.
            with self:
                return inside(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a tensor's value is read by the host during capture")
        result = func(*args, **kwargs)
        inputs = {_memory(x) for x in _tensors((args, kwargs))}
        fresh = [(at, x) for at, x in enumerate(_tensors(result)) if _memory(x) not in inputs]
        # `reshape` and its like are views only where no copy is needed.
        if func in _ALLOCATIONS or (func.is_view and not fresh):
            return result

        def step() -> None:
            again = _tensors(func(*args, **kwargs))
            for at, tensor in fresh:
                tensor.copy_(again[at])

        self._graph.steps.append(step)
        return result


_INSIDE: dict[str, Any] = {}
"""vLLM's operations that are written in Python, by name."""
_ALLOCATIONS = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.empty_strided.default,
}


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


@contextlib.contextmanager
def _capture(graph: RecordedGraph, *args: Any, **kwargs: Any) -> Iterator[None]:
    if RecordedGraph.broken:
        raise torch.OutOfMemoryError("CUDA out of memory while a graph was captured")
    recorder = _Recorder(graph)
    _Recorder.active = recorder
    try:
        with recorder:
            yield
    finally:
        _Recorder.active = None


def install() -> None:
    """Let vLLM in this process capture such graphs where it is started with graphs; call it before an engine is opened."""
    from triton.runtime import interpreter

    from evals import execution
    from evals.vllm.environment import answer_for_cpu_build

    answer_for_cpu_build()
    import vllm.v1.worker.gpu.cudagraph_utils as utils
    from vllm.config import CUDAGraphMode
    from vllm.model_executor.layers.attention import attention
    from vllm.platforms import current_platform
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.worker.gpu import model_runner

    for name in ("unified_attention_with_output", "unified_kv_cache_update"):
        _INSIDE[f"vllm::{name}"] = getattr(attention, name)
    launch = interpreter.GridExecutor.__call__

    def recorded_launch(executor: Any, *args: Any, **kwargs: Any) -> Any:
        recorder, _Recorder.active = _Recorder.active, None
        if recorder is None:
            return launch(executor, *args, **kwargs)
        try:
            with torch._C._DisableTorchDispatch():
                launch(executor, *args, **kwargs)
        finally:
            _Recorder.active = recorder
        recorder._graph.steps.append(lambda: launch(executor, *args, **kwargs))
        return None

    interpreter.GridExecutor.__call__ = recorded_launch
    check = CpuPlatform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, config: Any) -> None:
        check(cls, config)
        if config.model_config.enforce_eager:
            return
        # vLLM turns graphs off where the platform is a CPU.
        config.compilation_config.cudagraph_mode = CUDAGraphMode.FULL_DECODE_ONLY
        config.compilation_config.cudagraph_capture_sizes = SIZES
        config.compilation_config.max_cudagraph_capture_size = SIZES[-1]

    CpuPlatform.check_and_update_config = classmethod(check_and_update_config)
    CpuPlatform.get_attn_backend_cls = classmethod(lambda cls, *args, **kwargs: ATTENTION)
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.CUDAGraph = RecordedGraph
    torch.cuda.graph = _capture
    utils.graph_capture = lambda device: contextlib.nullcontext()
    utils.capture_pool = lambda pool, config: contextlib.nullcontext(pool)
    utils.current_stream = lambda: None
    type(current_platform).graph_pool_handle = lambda self: object()
    model_runner.lock_workspace = lambda: None
    # A CPU is refused this mode before the engine starts.
    execution.require_runnable = lambda spec, installed: None
