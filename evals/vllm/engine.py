"""The vLLM engine behind the interface of `evals.engine`."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from evals.checkpoint_settings import constant_rope_length, read_generation_settings
from evals.engine import (
    EngineMemory,
    EngineSpec,
    EngineTuning,
    GenerateRequest,
    GenerateResult,
    ScoreRequest,
    ScoreResult,
    Wanted,
    all_wanted,
)
from evals.errors import EngineError
from evals.live_paths import check_layer_path, each_path, read_config, require_live_family
from evals.vllm.generation import generations
from evals.vllm.loading import kv_bytes_per_token, plan_engine, running_spec, start, stop, weight_bytes
from evals.vllm.queue import RequestQueue
from evals.vllm.schedule import Path as LayerPath
from evals.vllm.scoring import scores
from evals.vllm.unscheduled import open_outside, text_of

_log = logging.getLogger(__name__)


class VllmEngine:
    """One vLLM engine in this process; see `evals.engine.Engine` for what it offers.

    Contexts longer than `max_length` lose tokens on the left, counted as lm-eval's `vllm` model counts them: a score keeps
    `max_length - 1` tokens with its continuation, a generation `max_length - max_new_tokens`.
    """

    def __init__(self, spec: EngineSpec, checkpoint: Path, tuning: EngineTuning | None = None) -> None:
        tuning = tuning or EngineTuning()
        self.spec = spec
        self.checkpoint = checkpoint
        self._closed = False
        self._slots = tuning.extra_layer_slots
        if tuning.sets_paths:
            self._slots += require_live_family(checkpoint)
        self._generation = read_generation_settings(checkpoint)
        self._constant_rope = constant_rope_length(read_config(checkpoint))
        self._plan = plan_engine(spec, checkpoint, tuning)
        VllmEngine._claim_process(self)
        self._llm = start(spec, checkpoint, self._plan)
        self.spec = self._checked(spec)
        self._queue = RequestQueue(self._llm, self._plan.arguments["max_num_seqs"])
        self._layer_path: LayerPath | None = None
        self._path: LayerPath = tuple(range(int(read_config(checkpoint).get("num_hidden_layers") or 0)))
        self._text = text_of(self._llm, self._generation)
        self._graph_rows = 0
        """Rows of decode steps for which the set path's CUDA graphs were asked."""
        self._outside = open_outside(self._llm, self.max_length, self._text) if self._plan.live else None

    def _checked(self, spec: EngineSpec) -> EngineSpec:
        """The specification with the attention backend that runs; EngineError, and no engine, where something else runs."""
        try:
            return running_spec(
                spec,
                self._plan,
                self._llm.collective_rpc("running_engine"),
                self._llm.model_config.quantization,
            )
        except EngineError:
            self._closed = True
            stop(self._llm)
            del self._llm
            raise

    _running: ClassVar[weakref.ref[VllmEngine] | None] = None
    _invariant: ClassVar[bool | None] = None
    """Whether this process's vLLM has batch-invariant kernels; they are put into torch once and stay."""

    @classmethod
    def _claim_process(cls, engine: VllmEngine) -> None:
        """vLLM's distributed state is the process's: the end of one engine would take another one with it."""
        other = cls._running() if cls._running else None
        if other is not None and not other._closed and hasattr(other, "_llm"):
            raise EngineError(
                f"A vLLM engine of {other.checkpoint} is open in this process, and a process can have one: close it first."
            )
        if cls._invariant not in (None, engine._plan.batch_invariant):
            raise EngineError(
                "This process ran an engine with another setting of batch_invariant, which vLLM fixes once per process: "
                "open the engine in a new process."
            )
        cls._invariant = engine._plan.batch_invariant
        cls._running = weakref.ref(engine)

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens that the engine takes."""
        return int(self._llm.model_config.max_model_len)

    @property
    def memory(self) -> EngineMemory:
        """What the engine holds."""
        cache = self._llm.llm_engine.vllm_config.cache_config
        config = read_config(self.checkpoint)
        layers = max(self._slots, int(config["num_hidden_layers"]))
        per_token = kv_bytes_per_token(self.spec, config, layers)
        tokens = (cache.num_gpu_blocks or 0) * cache.block_size
        return EngineMemory(
            weight_bytes=weight_bytes(self.checkpoint, self.spec),
            layer_slots=layers,
            block_size=cache.block_size,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * per_token,
        )

    def score(
        self, requests: Sequence[ScoreRequest], wanted: Wanted = all_wanted
    ) -> Iterator[tuple[int, ScoreResult]]:
        """Log-probabilities of continuations; what prompts have in common is computed once."""
        self._check_contexts(requests)
        if self._outside is None:
            yield from scores(self._queue, requests, self.max_length, wanted)
            return
        if not self._outside.ready:
            self._take_cache("score")
            self._outside.start(self._path)
        yield from self._outside.scorer.scores(requests, wanted)

    def generate(
        self, requests: Sequence[GenerateRequest], wanted: Wanted = all_wanted
    ) -> Iterator[tuple[int, GenerateResult]]:
        """Greedy generations."""
        self._check_prompts(requests)
        self._leave_cache()
        self._ask_for_graphs(len(requests))
        yield from generations(self._queue, requests, self.max_length, self._text, wanted)

    def score_paths(
        self, requests: Sequence[ScoreRequest], paths: Sequence[LayerPath]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        """Every request on every path; a prompt's pass is shared by paths as far as their layers agree."""
        self._check_paths(paths, bounded=self._outside is None)
        self._check_contexts(requests)
        if self._outside is None:
            yield from each_path(self, paths, lambda: self.score(requests))
            return
        self._take_cache("score")
        yield from self._outside.scorer.path_scores(requests, paths)

    def generate_paths(
        self, requests: Sequence[GenerateRequest], paths: Sequence[LayerPath]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        """Every request on every path; a decode step runs several paths and reads a layer's weights once for them."""
        self._check_paths(paths, bounded=self._outside is None)
        self._check_prompts(requests)
        if self._outside is None:
            yield from each_path(self, paths, lambda: self.generate(requests))
            return
        self._take_cache("generate")
        yield from self._outside.generator.generations(requests, paths)

    @property
    def layer_path(self) -> LayerPath | None:
        """The layer path as it was set; null is the checkpoint as it is."""
        return self._layer_path

    def set_layer_path(self, layers: LayerPath | None) -> None:
        """From the next request on, run these source layers in this order; None is the checkpoint as it is."""
        if layers is None and not self._plan.live:
            return
        n_layers = require_live_family(self.checkpoint)
        if layers is not None:
            self._check_paths([layers], bounded=True)
        self._queue.require_idle("change the layer path")
        self._llm.collective_rpc("set_layer_path", args=(layers,))
        self._graph_rows = 0
        self._layer_path = layers
        self._path = tuple(range(n_layers)) if layers is None else layers
        self._leave_cache()
        self._reset_prefix_cache()

    def _ask_for_graphs(self, requests: int) -> None:
        """Let the workers capture the set path's decode graphs, where they use any; if one cannot, all run eager."""
        rows = min(requests, self._plan.arguments["max_num_seqs"])
        if not self._plan.live or rows <= self._graph_rows or not self._queue.idle:
            return
        self._graph_rows = rows
        reasons = [r for r in self._llm.collective_rpc("capture_graphs", args=(rows,)) if r is not None]
        if reasons:
            self._llm.collective_rpc("use_graphs", args=(False,))
            _log.warning(
                "%s runs without CUDA graphs, more slowly and with the same kernels: %s",
                self.checkpoint,
                reasons[0],
            )

    def _check_paths(self, paths: Sequence[LayerPath], *, bounded: bool) -> None:
        """Raise EngineError for a path that this engine cannot run; only the scheduler is bound to slots."""
        n_layers = require_live_family(self.checkpoint)
        if not self._plan.live:
            raise EngineError(
                "This engine was started for the checkpoint as it is: open it with live=True to set a layer path."
            )
        for layers in paths:
            check_layer_path(
                layers, n_layers, max(self._slots, n_layers) if bounded else None, self.checkpoint
            )

    def _check_contexts(self, requests: Sequence[ScoreRequest]) -> None:
        self._check_lengths(len(r.context) + max(map(len, r.continuations)) for r in requests)

    def _check_prompts(self, requests: Sequence[GenerateRequest]) -> None:
        self._generation.require_supported()
        self._check_lengths(len(r.prompt) + r.max_new_tokens for r in requests)

    def _check_lengths(self, lengths: Iterable[int]) -> None:
        """Raise EngineError for a sequence whose rotary factors transformers would choose by its length."""
        limit = self._constant_rope
        longest = max(lengths, default=0)
        asked = self.spec.max_length
        # What fits into neither limit is truncated to the one that was asked for, here as there.
        if limit is None or longest < limit or (asked is not None and asked <= limit):
            return
        raise EngineError(
            f"A sequence of {longest} tokens is asked for; beyond {limit} tokens the rotary embedding of {self.checkpoint} "
            "depends on the length of each sequence, which vLLM does not do: use the transformers engine, or set max_length to "
            f"{limit}."
        )

    def _take_cache(self, purpose: str) -> None:
        """Take the KV cache from the scheduler: no request runs, and no block holds what it would find again."""
        self._queue.require_idle(purpose)
        self._leave_cache()
        self._reset_prefix_cache()

    def _leave_cache(self) -> None:
        """Whoever uses the KV cache next finds nothing of ours in it."""
        if self._outside is not None:
            self._outside.stop()

    def _reset_prefix_cache(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise EngineError(
                "vLLM keeps its prefix cache although no request runs: close the engine and open it again."
            )
        if self._plan.live:
            self._llm.collective_rpc("mend_cache")

    def close(self) -> None:
        """End the engine and free its memory; another one can be opened in this process afterwards."""
        if not self._closed:
            self._closed = True
            del self._queue, self._outside
            stop(self._llm)
            del self._llm
