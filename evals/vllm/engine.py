"""The vLLM implementation of `evals.engine.Engine`."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from evals.checkpoint_config import read_config
from evals.checkpoint_settings import constant_rope_length, read_generation_settings
from evals.engine import (
    EngineMemory,
    EngineSpec,
    EngineTuning,
    GenerateRequest,
    GenerateResult,
    RequestFilter,
    ScoreRequest,
    ScoreResult,
    accept_all,
)
from evals.errors import EngineError, UnsupportedArchitecture
from evals.layer_visits import running
from evals.live_paths import (
    check_layer_path,
    each_path,
    has_plain_layers,
    layer_count,
    paths_refused,
    require_live_family,
)
from evals.vllm.generation import generations
from evals.vllm.loading import kv_bytes_per_token, plan_engine, running_spec, start, stop, weight_bytes
from evals.vllm.path_check import LOOSE, STRICT, PathCheck
from evals.vllm.queue import RequestQueue
from evals.vllm.schedule import Path as LayerPath
from evals.vllm.scoring import scores
from evals.vllm.unscheduled import UnscheduledPasses, open_unscheduled, text_of
from evals.weights import LoadedWeights, Shapes, StreamedWeights, replaceable_tensors

_log = logging.getLogger(__name__)


class VllmEngine:
    """One vLLM engine in this process; see `evals.engine.Engine` for the interface.

    Contexts longer than `max_length` are truncated on the left as in lm-eval's `vllm` model: a score keeps `max_length - 1`
    tokens including its continuation, a generation `max_length - max_new_tokens`.
    """

    def __init__(self, spec: EngineSpec, checkpoint: Path, tuning: EngineTuning | None = None) -> None:
        tuning = tuning or EngineTuning()
        self.spec = spec
        self.checkpoint = checkpoint
        self._closed = False
        self._slots = tuning.extra_layer_slots
        config = read_config(checkpoint)
        self._weights = LoadedWeights(checkpoint)
        self._replaceable: Shapes | None = None
        if tuning.sets_paths:
            self._slots += require_live_family(checkpoint)
        self._generation = read_generation_settings(checkpoint)
        self._constant_rope = constant_rope_length(config)
        self._plan = plan_engine(spec, checkpoint, tuning)
        VllmEngine._claim_process(self)
        self._llm = start(spec, checkpoint, self._plan)
        self.spec = self._require_planned(spec)
        self._queue = RequestQueue(self._llm, self._plan.arguments["max_num_seqs"])
        self._layer_path: LayerPath | None = None
        self._path: LayerPath = tuple(range(layer_count(config) or 0))
        self._text = text_of(self._llm, self._generation)
        self._graph_rows = 0
        """Number of rows for which the current path's CUDA graphs were requested."""
        self._unscheduled: UnscheduledPasses | None = None
        if self._plan.live:
            self._unscheduled = self._open_paths(tested=has_plain_layers(config))

    def _open_paths(self, *, tested: bool) -> UnscheduledPasses | None:
        """Prepare layer paths, after a self-check if no test compares the family's; stops vLLM and raises if they cannot run.

        Returns the passes outside the scheduler; None if the model does not fit them and paths run through the scheduler.
        """
        obstacle = next((r for r in self._llm.collective_rpc("find_path_obstacle") if r is not None), None)
        if tested and obstacle is None:
            return open_unscheduled(self._llm, self.max_length, self._text)
        n_layers = require_live_family(self.checkpoint)
        limit = STRICT if self.spec.dtype == "float32" else LOOSE
        vocabulary = int(self._llm.model_config.get_vocab_size())
        check = PathCheck(self._llm, self._queue, n_layers, vocabulary, self._scheduled_scores)
        if obstacle is None:
            obstacle = check.difference(self._slots, limit)
        if obstacle is not None:
            self._stop_vllm()
            architecture = ", ".join(read_config(self.checkpoint).get("architectures") or ["model"])
            raise paths_refused(self.checkpoint, architecture, obstacle, "in vLLM")
        self._reset_prefix_cache()
        if not all(self._llm.collective_rpc("fits_forward", args=(list(check.recorded),))):
            return None
        passes = open_unscheduled(self._llm, self.max_length, self._text)
        if passes is None:
            return None

        def scored(path: tuple[int, ...], requests: Sequence[ScoreRequest]) -> list[ScoreResult]:
            self._reset_prefix_cache()
            passes.start(path)
            results = _in_order(passes.scorer.scores(requests, accept_all))
            passes.stop()
            return results

        fits = check.agrees(scored, self._slots, limit)
        self._reset_prefix_cache()
        return passes if fits else None

    def _scheduled_scores(self, requests: Sequence[ScoreRequest]) -> list[ScoreResult]:
        """Scores through the scheduler, with an empty prefix cache."""
        self._reset_prefix_cache()
        return _in_order(scores(self._queue, requests, self.max_length, accept_all))

    def _require_planned(self, spec: EngineSpec) -> EngineSpec:
        """The specification with the running attention backend; stops vLLM and raises EngineError if it differs from the plan."""
        try:
            return running_spec(
                spec,
                self._plan,
                self._llm.collective_rpc("running_engine"),
                self._llm.model_config.quantization,
            )
        except EngineError:
            self._stop_vllm()
            raise

    def _stop_vllm(self) -> None:
        self._closed = True
        stop(self._llm)
        del self._llm

    _running: ClassVar[weakref.ref[VllmEngine] | None] = None
    _invariant: ClassVar[bool | None] = None
    """Whether this process's vLLM has batch-invariant kernels; vLLM installs them into torch once per process."""

    @classmethod
    def _claim_process(cls, engine: VllmEngine) -> None:
        """Raise EngineError if an engine is open or differs in batch invariance: vLLM's state is global to the process."""
        open_engine = cls._running() if cls._running else None
        if open_engine is not None and not open_engine._closed and hasattr(open_engine, "_llm"):
            raise EngineError(
                f"A vLLM engine of {open_engine.checkpoint} is open in this process, and a process can have one: close it first."
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
        """Longest sequence of the engine, in tokens."""
        return int(self._llm.model_config.max_model_len)

    @property
    def memory(self) -> EngineMemory:
        """Memory of weights and KV cache."""
        cache = self._llm.llm_engine.vllm_config.cache_config
        config = read_config(self.checkpoint)
        layers = max(self._slots, layer_count(config) or 0)
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
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        """Log-probabilities of continuations; shared prefixes are computed once."""
        self._check_contexts(requests)
        self._weights.require_whole()
        if self._unscheduled is None:
            yield from scores(self._queue, requests, self.max_length, accepts)
            return
        if not self._unscheduled.ready:
            self._claim_cache("score")
            self._unscheduled.start(self._path)
        yield from self._unscheduled.scorer.scores(requests, accepts)

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        """Greedy generations."""
        self._check_prompts(requests)
        self._weights.require_whole()
        self._release_cache()
        self._capture_graphs(len(requests))
        yield from generations(self._queue, requests, self.max_length, self._text, accepts)

    def score_paths(
        self, requests: Sequence[ScoreRequest], paths: Sequence[LayerPath]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        """Every request on every path; paths share a prompt's pass up to the first layer in which they differ."""
        self._check_paths(paths, bounded=self._unscheduled is None)
        self._check_contexts(requests)
        self._weights.require_whole()
        if self._unscheduled is None:
            yield from each_path(self, paths, lambda: self.score(requests))
            return
        self._claim_cache("score")
        yield from self._unscheduled.scorer.path_scores(requests, [running(path) for path in paths])

    def generate_paths(
        self, requests: Sequence[GenerateRequest], paths: Sequence[LayerPath]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        """Every request on every path; a decode step reads a layer's weights once for several paths."""
        self._check_paths(paths, bounded=self._unscheduled is None)
        self._check_prompts(requests)
        self._weights.require_whole()
        if self._unscheduled is None:
            yield from each_path(self, paths, lambda: self.generate(requests))
            return
        self._claim_cache("generate")
        yield from self._unscheduled.generator.generations(requests, [running(path) for path in paths])

    @property
    def layer_path(self) -> LayerPath | None:
        """The layer path; None for the unmodified checkpoint."""
        return self._layer_path

    def set_layer_path(self, layers: LayerPath | None) -> None:
        """Run these visits of layers in this order from the next request on; None for the unmodified checkpoint."""
        if layers is None and not self._plan.live:
            return
        n_layers = require_live_family(self.checkpoint)
        if layers is not None:
            self._check_paths([layers], bounded=True)
        self._queue.require_idle("change the layer path")
        self._llm.collective_rpc("set_layer_path", args=(layers,))
        self._graph_rows = 0
        self._layer_path = layers
        self._path = tuple(range(n_layers)) if layers is None else running(layers)
        self._release_cache()
        self._reset_prefix_cache()

    @property
    def weights(self) -> LoadedWeights:
        """The weights that the engine holds."""
        return self._weights

    def load_weights(self, weights: StreamedWeights | None) -> None:
        """Replace all weights in place, in every worker; None restores the checkpoint's own."""
        if self._replaceable is None:
            self._replaceable = replaceable_tensors(self.checkpoint)
        self._queue.require_idle("change the weights")
        self._weights.require_whole()
        self.set_layer_path(None)
        with self._weights.change(weights.digest if weights else None):
            self._release_cache()
            self._llm.collective_rpc("replace_weights", args=(weights, self._replaceable, self.checkpoint))
            self._reset_prefix_cache()

    def _capture_graphs(self, requests: int) -> None:
        """Make the workers capture the current path's decode graphs; if one fails, all run eager."""
        rows = min(requests, self._plan.arguments["max_num_seqs"])
        if not self._plan.live or rows <= self._graph_rows or not self._queue.idle:
            return
        self._graph_rows = rows
        reasons = [r for r in self._llm.collective_rpc("capture_graphs", args=(rows,)) if r is not None]
        if reasons:
            self._llm.collective_rpc("use_graphs", args=(False,))
            _log.warning(
                "%s runs without CUDA graphs, with the same kernels but slower: %s",
                self.checkpoint,
                reasons[0],
            )

    def _check_paths(self, paths: Sequence[LayerPath], *, bounded: bool) -> None:
        """Raise EngineError for a path that this engine cannot run; only the scheduler (`bounded`) is limited to the layer slots."""
        n_layers = require_live_family(self.checkpoint)
        if not self._plan.live:
            raise EngineError(
                "This engine was started for the unmodified checkpoint: open it with live=True to set a layer path."
            )
        for layers in paths:
            check_layer_path(
                layers, n_layers, max(self._slots, n_layers) if bounded else None, self.checkpoint
            )
        partial = dict.fromkeys(v for layers in paths for v in layers if not isinstance(v, int))
        if partial:
            reasons = [r for r in self._llm.collective_rpc("parts_obstacle", args=(tuple(partial),)) if r]
            if reasons:
                raise UnsupportedArchitecture(f"{self.checkpoint}: {reasons[0]}")

    def _check_contexts(self, requests: Sequence[ScoreRequest]) -> None:
        self._check_lengths(len(r.context) + max(map(len, r.continuations)) for r in requests)

    def _check_prompts(self, requests: Sequence[GenerateRequest]) -> None:
        self._generation.require_supported()
        self._check_lengths(len(r.prompt) + r.max_new_tokens for r in requests)

    def _check_lengths(self, lengths: Iterable[int]) -> None:
        """Raise EngineError for a sequence so long that its rotary factors depend on its length in transformers."""
        limit = self._constant_rope
        longest = max(lengths, default=0)
        max_length = self.spec.max_length
        # If max_length is within the limit, longer sequences are truncated to it in both engines.
        if limit is None or longest < limit or (max_length is not None and max_length <= limit):
            return
        raise EngineError(
            f"A sequence has {longest} tokens; beyond {limit} tokens the rotary embedding of {self.checkpoint} "
            "depends on the length of each sequence, which vLLM does not support: use the transformers engine, or set max_length to "
            f"{limit}."
        )

    def _claim_cache(self, purpose: str) -> None:
        """Reserve the KV cache for passes outside the scheduler: no request runs, and the prefix cache is empty."""
        self._queue.require_idle(purpose)
        self._release_cache()
        self._reset_prefix_cache()

    def _release_cache(self) -> None:
        """Invalidate what passes outside the scheduler keep in the KV cache."""
        if self._unscheduled is not None:
            self._unscheduled.stop()

    def _reset_prefix_cache(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise EngineError(
                "vLLM cannot reset its prefix cache although no request runs: close the engine and open it again."
            )
        if self._plan.live:
            self._llm.collective_rpc("mend_cache")

    def close(self) -> None:
        """Stop the engine and free its memory; another one can then be opened in this process."""
        if not self._closed:
            self._closed = True
            del self._queue, self._unscheduled
            stop(self._llm)
            del self._llm


def _in_order(results: Iterator[tuple[int, ScoreResult]]) -> list[ScoreResult]:
    """Results in the order of their requests."""
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]
