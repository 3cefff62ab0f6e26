"""vLLM's worker with layer slots, which can change its layer path at run time; passed to vLLM as `worker_cls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.config import CUDAGraphMode, VllmConfig, set_current_vllm_config
from vllm.platforms import current_platform
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.worker.utils import clear_layer_kv_caches

from evals.errors import UnsupportedArchitecture
from evals.layer_visits import VisitPath
from evals.vllm.batch import DecodeStep, Step, StepResult
from evals.vllm.call_record import CallRecord
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

    layer_slots: LayerSlots | None = None
    path_obstacle: str | None = None
    """Why layer paths cannot run on this model's structure."""
    calls: CallRecord

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
        try:
            self.layer_slots = LayerSlots(self.model_runner.get_model(), self.vllm_config, self.device, extra)
        except UnsupportedArchitecture as error:
            # The engine asks for it and reports it; raised here it would be one of many errors of a start.
            self.path_obstacle = str(error)

    def find_path_obstacle(self) -> str | None:
        """Why layer paths cannot run on this model's structure; None if they can."""
        return self.path_obstacle

    @property
    def slots(self) -> LayerSlots:
        """The layer slots of a model that has them."""
        assert self.layer_slots is not None  # the engine is closed if `find_path_obstacle` gives a reason
        return self.layer_slots

    def initialize_from_config(self, *args: Any, **kwargs: Any) -> None:
        """Allocate the KV cache and replace the runner's graph manager by that of layer paths."""
        super().initialize_from_config(*args, **kwargs)
        if self.use_v2_model_runner and self.layer_slots is not None:
            from evals.vllm.graphs import take_graphs

            self.path_graphs = take_graphs(self.model_runner, self.layer_slots)

    def parts_obstacle(self, layers: VisitPath) -> str | None:
        """Why a visit of the path cannot run in part or damped; None if all can."""
        try:
            self.slots.require_parts(layers)
        except UnsupportedArchitecture as error:
            return str(error)
        return None

    def set_layer_path(self, layers: VisitPath | None) -> None:
        """Run these visits of layers from the next step on; None for the unmodified checkpoint."""
        self.slots.set(layers)
        if self.path_graphs is not None and not self.path_graphs.current:
            self.path_graphs.release_graphs()

    def place_layers(self, layers: tuple[int, ...], slots: tuple[int, ...]) -> None:
        """Run these source layers with the KV caches of these slots, for the self-check."""
        self.slots.place(layers, slots)

    def start_recording(self) -> None:
        """Record what the layers are given."""
        if not hasattr(self, "calls"):
            self.calls = CallRecord(self.slots, self.vllm_config.model_config.get_hidden_size())
        self.calls.start()

    def stop_recording(self) -> str | None:
        """How what a layer is given depends on its place in the path, compared with the first recording."""
        return self.calls.stop()

    def fits_forward(self, tokens: list[int]) -> bool:
        """Whether `Forward` can run this model: the recorded calls have its form, and `tokens`, the recorded prompt, its embedding."""
        model, stack, calls = self.model_runner.get_model(), self.slots.stack, self.calls.reference
        if not all(call.plain for call in calls) or not self.slots.alike:
            return False
        if getattr(model, "model", None) is not stack.owner or stack.norm is stack.owner:
            return False
        embedding = getattr(stack.owner, "embed_input_ids", None)
        if embedding is None or not calls[0].states:
            return False
        first = calls[0].states[0]
        with torch.inference_mode():
            expected = embedding(torch.tensor(tokens, device=self.device))
        return expected.shape == first.shape and torch.equal(expected, first)

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
            self.model_runner, self.slots, self.vllm_config, self.device, rows, answers=self.rank == 0
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

    def run_step(self, step: Step, paths: list[VisitPath], stride: Stride) -> list[StepResult]:
        """Run a forward pass on each of these layer paths, outside the scheduler, which must be idle."""
        return self.forward.run(step, paths, stride)

    def decode_step(self, step: DecodeStep, paths: list[VisitPath], stride: Stride) -> list[int]:
        """One more token for each row (path, prompt), after `run_step` over their prompts with the same stride."""
        return self.forward.decode(step, tuple(paths), stride)

    def shutdown(self) -> None:
        """Stop the worker and free the extra KV caches and layer copies, which vLLM does not free."""
        if slots := getattr(self, "layer_slots", None):
            clear_layer_kv_caches(slots.holders)
        self.path_graphs = None
        for name in ("forward", "layer_slots", "calls"):
            self.__dict__.pop(name, None)
        super().shutdown()

    def mend_cache(self) -> bool:
        """Zero the KV cache if it contains non-finite values; its contents must not be needed any more."""
        return self.slots.mend_cache()
