"""The vLLM engine behind the interface of `evals.engine`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from evals.engine import (
    EngineMemory,
    EngineSpec,
    EngineTuning,
    GenerateRequest,
    GenerateResult,
    ScoreRequest,
    ScoreResult,
)
from evals.errors import EngineError
from evals.live_paths import check_layer_path, read_config, require_live_family
from evals.vllm.batch import Step, StepResult
from evals.vllm.generation import generations
from evals.vllm.loading import kv_bytes_per_token, plan_engine, start, stop
from evals.vllm.queue import RequestQueue
from evals.vllm.schedule import Path as LayerPath
from evals.vllm.schedule import Stride
from evals.vllm.scoring import scores
from evals.vllm.tree_scoring import TreeScorer


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
        if tuning.extra_layer_slots:
            self._slots += require_live_family(checkpoint)
        self._plan = plan_engine(spec, checkpoint, tuning)
        self._llm = start(spec, checkpoint, self._plan)
        self._queue = RequestQueue(self._llm, self._plan.arguments["max_num_seqs"])
        self._path: LayerPath = tuple(range(int(read_config(checkpoint)["num_hidden_layers"])))
        self._trees_ready = False
        self._trees = self._tree_scorer()
        tokenizer = self._llm.get_tokenizer()
        self._end_text = (
            tokenizer.decode([tokenizer.eos_token_id]) if tokenizer.eos_token_id is not None else ""
        )

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
            weight_bytes=sum(self._llm.collective_rpc("weight_bytes")) if self._plan.live else None,
            layer_slots=layers,
            block_size=cache.block_size,
            kv_cache_tokens=tokens,
            kv_cache_bytes=tokens * per_token,
        )

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreResult]]:
        """Log-probabilities of continuations; what prompts have in common is computed once."""
        if self._trees is None:
            yield from scores(self._queue, requests, self.max_length)
            return
        self._queue.require_idle("score")
        if not self._trees_ready:
            self._reset_prefix_cache()
            self._trees.start(self._path)
            self._trees_ready = True
        yield from self._trees.scores(requests)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, GenerateResult]]:
        """Greedy generations."""
        self._trees_ready = False
        yield from generations(self._queue, requests, self.max_length, self._end_text)

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        """From the next request on, run these source layers in this order; None is the checkpoint as it is."""
        if layers is None and not self._plan.live:
            return
        n_layers = require_live_family(self.checkpoint)
        if not self._plan.live:
            raise EngineError(
                "This engine was started compiled, without layer slots: open it with extra_layer_slots=1 or more."
            )
        if layers is not None:
            check_layer_path(layers, n_layers, max(self._slots, n_layers), self.checkpoint)
        self._queue.require_idle("change the layer path")
        self._llm.collective_rpc("set_layer_path", args=(layers,))
        self._path = tuple(range(n_layers)) if layers is None else layers
        self._trees_ready = False
        self._reset_prefix_cache()

    def _reset_prefix_cache(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise EngineError(
                "vLLM keeps its prefix cache although no request runs: close the engine and open it again."
            )

    def _tree_scorer(self) -> TreeScorer | None:
        """Scoring outside the scheduler, where the workers can."""
        if not self._plan.live or not all(self._llm.collective_rpc("can_run_steps")):
            return None
        cache = self._llm.llm_engine.vllm_config.cache_config

        def run(step: Step, paths: list[LayerPath], stride: Stride) -> list[StepResult]:
            results: list[list[StepResult]] = self._llm.collective_rpc("run_step", args=(step, paths, stride))
            return results[0]

        return TreeScorer(run, cache.num_gpu_blocks, cache.block_size, self.max_length)

    def close(self) -> None:
        """End the engine and free its memory; another one can be opened in this process afterwards."""
        if not self._closed:
            self._closed = True
            del self._queue
            stop(self._llm)
            del self._llm
