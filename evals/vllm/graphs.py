"""Full CUDA graphs of decode steps under live layer paths. A graph belongs to one path and is replayed on no other.

A captured graph holds the kernels of the layers that the model ran at its capture, so a change of path makes it wrong.
Graphs are captured when the first generation of a path asks for them, while the scheduler is idle; scoring never does. Positions,
block tables, slots and lengths are in buffers of vLLM's runner that a replay reads anew. Only the V2 runner is served.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import torch
from vllm.config.compilation import CUDAGraphMode
from vllm.platforms import current_platform
from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor, ModelCudaGraphManager

from evals.vllm.slots import LayerSlots

_log = logging.getLogger(__name__)


class StaleGraph(RuntimeError):
    """A graph of another layer path was about to be replayed."""


class PathGraphs(ModelCudaGraphManager):
    """vLLM's graph manager, with the graphs of one layer path.

    Every change of path gives `LayerSlots.generation` a new value. Graphs are used while that value is the one of their capture.
    """

    _capture_descs: dict[CUDAGraphMode, list[BatchExecutionDescriptor]]

    def __init__(self, manager: ModelCudaGraphManager, slots: LayerSlots) -> None:
        """Take the place of the manager that the runner made; nothing is captured yet."""
        super().__init__(
            manager.vllm_config,
            manager.device,
            manager.cudagraph_mode,
            manager.decode_query_len,
            lora_capture_cases=manager.lora_capture_cases,
            varlen_decode=manager.varlen_decode,
            ubatch_runner=manager.ubatch_runner,
        )
        config = manager.vllm_config.model_config
        # Made by vLLM for the largest batch of the first capture; ours grow, and all graphs write to the same place.
        self.hidden_states = torch.empty(
            max((d.num_tokens for descs in self._capture_descs.values() for d in descs), default=0),
            config.get_hidden_size(),
            dtype=config.dtype,
            device=manager.device,
        )
        self._slots = slots
        self._generation: int | None = None
        """The generation of the slots for which the graphs were captured."""
        self._due: dict[CUDAGraphMode, list[BatchExecutionDescriptor]] = {}
        self.enabled = True
        """Whether graphs are captured and replayed; if not, every step runs eager."""

    @property
    def current(self) -> bool:
        """Whether the graphs are those of the path that is set."""
        return self._generation == self._slots.generation

    def release_graphs(self) -> None:
        """Drop the graphs and the memory pool that they share."""
        super().release_graphs()
        self._generation = None
        if self.cudagraph_mode:
            # With its last graph a pool ends, and the allocator refuses to capture into it again.
            self.pool = current_platform.graph_pool_handle()

    def missing(self, rows: int) -> list[BatchExecutionDescriptor]:
        """Batch sizes up to the one that serves this many rows, whose graphs the set path lacks; the largest first."""
        sizes = sorted({d.num_tokens for descs in self._capture_descs.values() for d in descs})
        largest = next((size for size in sizes if size >= rows), sizes[-1] if sizes else 0)
        known = self.graphs if self.current else {}
        return [
            desc
            for descs in self._capture_descs.values()
            for desc in descs
            if desc.num_tokens <= largest and desc not in known
        ]

    def capture_for(self, runner: Any, rows: int) -> None:
        """Capture what the set path lacks for batches of up to this many rows. The scheduler must be idle."""
        if not self.current:
            self.release_graphs()
        due = self.missing(rows)
        if not due or not self.enabled:
            return
        self._due = {mode: [d for d in due if d.cg_mode == mode] for mode in {d.cg_mode for d in due}}
        try:
            # vLLM draws a progress bar for every capture.
            with contextlib.redirect_stderr(io.StringIO()):
                runner.capture_model()
            self._generation = self._slots.generation
        finally:
            self._due = {}
            if not self.current:
                self.release_graphs()

    def needs_capture(self) -> bool:
        """Nothing is captured at the engine's start."""
        return bool(self._due)

    def capture(self, *args: Any, **kwargs: Any) -> None:
        """Capture what is due."""
        everything, self._capture_descs = self._capture_descs, self._due
        try:
            super().capture(*args, **kwargs)
        finally:
            self._capture_descs = everything

    def dispatch(self, num_reqs: int, num_tokens: int, *args: Any, **kwargs: Any) -> BatchExecutionDescriptor:
        """The graph for a batch; eager where the set path has none of that size."""
        desc = super().dispatch(num_reqs, num_tokens, *args, **kwargs)
        if desc.cg_mode == CUDAGraphMode.NONE or (self.enabled and self.current and desc in self.graphs):
            return desc
        return BatchExecutionDescriptor(
            cg_mode=CUDAGraphMode.NONE,
            num_tokens=num_tokens,
            num_reqs=num_reqs,
            num_active_loras=desc.num_active_loras,
            num_ubatches=desc.num_ubatches,
        )

    def run_fullgraph(self, desc: BatchExecutionDescriptor) -> Any:
        """Replay a graph; raises StaleGraph where it is not the set path's."""
        if not self.current:
            raise StaleGraph(
                f"A CUDA graph of layer path {self._generation} was about to be replayed on path {self._slots.generation}."
            )
        return super().run_fullgraph(desc)


def take_graphs(runner: Any, slots: LayerSlots) -> PathGraphs | None:
    """Make a V2 runner's graphs those of the set path; null where it runs without graphs."""
    manager = runner.cudagraph_manager
    if manager is None or not manager.cudagraph_mode:
        return None
    runner.cudagraph_manager = PathGraphs(manager, slots)
    return runner.cudagraph_manager


def capture_or_explain(graphs: PathGraphs, runner: Any, rows: int) -> str | None:
    """Capture for the set path; if that fails, turn graphs off and say why."""
    try:
        graphs.capture_for(runner, rows)
    except (RuntimeError, AssertionError, ValueError) as error:
        graphs.enabled = False
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        _log.warning("CUDA graphs could not be captured (%s).", reason)
        return reason
    return None
