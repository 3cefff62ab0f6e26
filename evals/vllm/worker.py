"""vLLM's worker with layer slots, which can change its layer path at run time; passed to vLLM as `worker_cls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.config import CUDAGraphMode, VllmConfig, set_current_vllm_config
from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.worker.utils import clear_layer_kv_caches

from evals.vllm.batch import DecodeStep, Step, StepResult
from evals.vllm.forward import Forward
from evals.vllm.limits import HEAD_ROWS_CPU, LayerShape, Limits, gpu_limits, head_rows
from evals.vllm.reloading import ReplacesWeights
from evals.vllm.reporting import ReportsExecution
from evals.vllm.schedule import Stride
from evals.vllm.slots import LayerSlots

if TYPE_CHECKING:
    from evals.vllm.graphs import PathGraphs

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
else:
    from vllm.v1.worker.gpu_worker import Worker as _Worker


SUPPORTED_BACKENDS = frozenset({"CPU_ATTN", "FLASH_ATTN", "TRITON_ATTN"})
"""Attention backends that `Forward` supports: it builds their metadata, and their KV cache is [blocks, KV heads, tokens of a block,
keys and values]. FlashInfer, for example, plans on the host for the scheduler's batches."""


def has_plain_cache(runner: Any) -> bool:
    """Whether the KV cache is one full-attention group of one supported backend, addressed by a single block table."""
    groups = runner.kv_cache_config.kv_cache_groups
    if len(groups) != 1 or type(groups[0].kv_cache_spec) is not FullAttentionSpec:
        return False
    backends = runner.attn_groups[0]
    # A backend that divides blocks reads separate block tables.
    return (
        len(backends) == 1
        and backends[0].backend.get_name() in SUPPORTED_BACKENDS
        and getattr(backends[0], "kernel_block_size", None) is None
    )


class LiveWorker(ReportsExecution, ReplacesWeights, _Worker):
    """The platform's worker with layer slots; all ranks of a tensor-parallel engine change their path together."""

    path_graphs: PathGraphs | None = None
    """The decode graphs of the current path; None in an engine that runs eager."""

    def __init__(self, vllm_config: VllmConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, *args, **kwargs)
        if not self.use_v2_model_runner and not current_platform.is_cpu():
            # The V1 runner would replay its graphs on every path.
            vllm_config.compilation_config.cudagraph_mode = CUDAGraphMode.NONE
            vllm_config.model_config.enforce_eager = True

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the weights and add the extra slots, before vLLM determines which layers need a KV cache."""
        super().load_model(*args, **kwargs)
        extra = int(self.vllm_config.additional_config["extra_layer_slots"])
        self.layer_slots = LayerSlots(self.model_runner.get_model(), self.vllm_config, self.device, extra)

    def initialize_from_config(self, *args: Any, **kwargs: Any) -> None:
        """Allocate the KV cache and replace the runner's graph manager by that of layer paths."""
        super().initialize_from_config(*args, **kwargs)
        if self.use_v2_model_runner:
            from evals.vllm.graphs import take_graphs

            self.path_graphs = take_graphs(self.model_runner, self.layer_slots)

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        """Run these source layers from the next step on; None for the unmodified checkpoint."""
        self.layer_slots.set(layers)
        if self.path_graphs is not None and not self.path_graphs.current:
            self.path_graphs.release_graphs()

    def capture_graphs(self, rows: int) -> str | None:
        """Capture the current path's graphs for decode steps of up to this many rows, while the scheduler is idle.

        Returns the reason if that fails; the caller must then disable graphs on every rank.
        """
        if self.path_graphs is None or not self.path_graphs.enabled:
            return None
        from evals.vllm.graphs import capture_or_explain

        with set_current_vllm_config(self.vllm_config):
            return capture_or_explain(self.path_graphs, self.model_runner, rows)

    def use_graphs(self, enabled: bool) -> None:
        """Enable or disable graphs; without them decode steps run eager."""
        if self.path_graphs is not None:
            self.path_graphs.enabled = enabled

    def start_steps(self) -> Limits | None:
        """Prepare `run_step` and `decode_step` and return the limits of their passes; None without a plain KV cache."""
        if not has_plain_cache(self.model_runner):
            return None
        config = self.vllm_config.model_config
        vocabulary = config.get_vocab_size()
        rows = HEAD_ROWS_CPU if self.device.type == "cpu" else head_rows(vocabulary)
        self.forward = Forward(
            self.model_runner, self.layer_slots, self.vllm_config, self.device, rows, answers=self.rank == 0
        )
        cache_shape = (self.forward.n_holders, self.forward.n_blocks, self.forward.block_size)
        if self.device.type == "cpu":
            return Limits(*cache_shape)
        torch.accelerator.synchronize()
        # Memory that the allocator keeps from the start-up's largest pass is available.
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + cached
        shape = LayerShape.of(config.hf_text_config, self.parallel_config.tensor_parallel_size)
        return gpu_limits(*cache_shape, free_bytes=free, shape=shape, element_size=config.dtype.itemsize)

    def run_step(self, step: Step, paths: list[tuple[int, ...]], stride: Stride) -> list[StepResult]:
        """Run a forward pass on each of these layer paths, outside the scheduler, which must be idle."""
        return self.forward.run(step, paths, stride)

    def decode_step(self, step: DecodeStep, paths: list[tuple[int, ...]], stride: Stride) -> list[int]:
        """One more token for each row (path, prompt), after `run_step` over their prompts with the same stride."""
        return self.forward.decode(step, tuple(paths), stride)

    def shutdown(self) -> None:
        """Stop the worker and free the extra KV caches and layer copies, which vLLM does not free."""
        if slots := getattr(self, "layer_slots", None):
            clear_layer_kv_caches(slots.holders)
        self.path_graphs = None
        for name in ("forward", "layer_slots"):
            self.__dict__.pop(name, None)
        super().shutdown()

    def mend_cache(self) -> bool:
        """Zero the KV cache if it contains non-finite values; its contents must not be needed any more."""
        return self.layer_slots.mend_cache()
