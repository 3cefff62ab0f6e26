"""Full CUDA graphs of decode steps with live layer paths. A graph is replayed only on the path that it was captured for.

A captured graph contains the kernels of the layers that the model ran at its capture, so a change of path invalidates it. Graphs
are captured before the first generation of a path, while the scheduler is idle, and never for scoring. Positions, block tables,
slots and lengths are in buffers of vLLM's runner that every replay reads. Only the V2 runner is supported.
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
    """A graph of another layer path would be replayed."""


class PathGraphs(ModelCudaGraphManager):
    """vLLM's graph manager for the graphs of one layer path.

    Every change of path increments `LayerSlots.generation`. Graphs are valid while it has its value at their capture.
    """

    _capture_descs: dict[CUDAGraphMode, list[BatchExecutionDescriptor]]

    def __init__(self, manager: ModelCudaGraphManager, slots: LayerSlots) -> None:
        """Replace the runner's manager; nothing is captured yet."""
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
        # vLLM allocates it for the largest batch of the first capture; here later captures can be larger, and all graphs share it.
        self.hidden_states = torch.empty(
            max((d.num_tokens for descs in self._capture_descs.values() for d in descs), default=0),
            config.get_hidden_size(),
            dtype=config.dtype,
            device=manager.device,
        )
        self._slots = slots
        self._generation: int | None = None
        """Generation of the slots at the graphs' capture."""
        self._due: dict[CUDAGraphMode, list[BatchExecutionDescriptor]] = {}
        self.enabled = True
        """Whether graphs are captured and replayed; otherwise every step runs eager."""

    @property
    def current(self) -> bool:
        """Whether the graphs belong to the current path."""
        return self._generation == self._slots.generation

    def release_graphs(self) -> None:
        """Drop the graphs and their memory pool."""
        super().release_graphs()
        self._generation = None
        if self.cudagraph_mode:
            # The allocator rejects captures into a pool whose last graph is gone.
            self.pool = current_platform.graph_pool_handle()

    def missing(self, rows: int) -> list[BatchExecutionDescriptor]:
        """Graphs that the current path lacks, of batch sizes up to the one for this many rows; the largest first."""
        sizes = sorted({d.num_tokens for descs in self._capture_descs.values() for d in descs})
        largest = next((size for size in sizes if size >= rows), sizes[-1] if sizes else 0)
        captured = self.graphs if self.current else {}
        return [
            desc
            for descs in self._capture_descs.values()
            for desc in descs
            if desc.num_tokens <= largest and desc not in captured
        ]

    def capture_for(self, runner: Any, rows: int) -> None:
        """Capture the current path's missing graphs for batches of up to this many rows. The scheduler must be idle."""
        if not self.current:
            self.release_graphs()
        due = self.missing(rows)
        if not due or not self.enabled:
            return
        self._due = {mode: [d for d in due if d.cg_mode == mode] for mode in {d.cg_mode for d in due}}
        try:
            # vLLM shows a progress bar for every capture.
            with contextlib.redirect_stderr(io.StringIO()):
                runner.capture_model()
            self._generation = self._slots.generation
        finally:
            self._due = {}
            if not self.current:
                self.release_graphs()

    def needs_capture(self) -> bool:
        """Whether a capture is pending; false at the engine's start."""
        return bool(self._due)

    def capture(self, *args: Any, **kwargs: Any) -> None:
        """Capture the pending graphs."""
        all_descs, self._capture_descs = self._capture_descs, self._due
        try:
            super().capture(*args, **kwargs)
        finally:
            self._capture_descs = all_descs

    def dispatch(self, num_reqs: int, num_tokens: int, *args: Any, **kwargs: Any) -> BatchExecutionDescriptor:
        """The graph for a batch; eager if the current path has none of that size."""
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
        """Replay a graph; StaleGraph if it belongs to another path."""
        if not self.current:
            raise StaleGraph(
                f"A CUDA graph of layer path {self._generation} was about to be replayed on path {self._slots.generation}."
            )
        return super().run_fullgraph(desc)


def take_graphs(runner: Any, slots: LayerSlots) -> PathGraphs | None:
    """Replace a V2 runner's graph manager by PathGraphs; None if it runs without graphs."""
    manager = runner.cudagraph_manager
    if manager is None or not manager.cudagraph_mode:
        return None
    runner.cudagraph_manager = PathGraphs(manager, slots)
    return runner.cudagraph_manager


def capture_or_explain(graphs: PathGraphs, runner: Any, rows: int) -> str | None:
    """Capture the current path's graphs; if that fails, disable graphs and return the reason."""
    try:
        graphs.capture_for(runner, rows)
    except (RuntimeError, AssertionError, ValueError) as error:
        graphs.enabled = False
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        _log.warning("CUDA graphs could not be captured (%s).", reason)
        return reason
    return None
