"""The transformers implementation of `evals.engine.Engine`."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

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
from evals.errors import EngineError, first_line
from evals.execution import with_backend
from evals.layer_visits import VisitPath
from evals.live_paths import each_path, is_live_family, require_live_family
from evals.transformers.generation import Generator
from evals.transformers.layer_path import LivePaths
from evals.transformers.loading import (
    attention_of,
    length_limit,
    load_model,
    load_tokenizer,
    pick_device,
    refuse,
    set_threads,
)
from evals.transformers.rope import LengthAwareScorer, Scorer
from evals.transformers.scoring import CachedTreeScorer, PlainScorer
from evals.transformers.weights import WeightLoader
from evals.weights import LoadedWeights, StreamedWeights

BATCH_CPU = 16
BATCH_CUDA = 64


class TransformersEngine:
    """Loads the checkpoint once; see `evals.engine.Engine` for the interface.

    Contexts longer than `max_length` are truncated on the left as in lm-eval's `hf` model: a score keeps `max_length` tokens
    besides the last one of the continuation, a generation `max_length - max_new_tokens`.
    """

    def __init__(self, spec: EngineSpec, checkpoint: Path, tuning: EngineTuning | None = None) -> None:
        tuning = tuning or EngineTuning()
        self.spec = spec
        self.checkpoint = checkpoint
        refuse(spec, checkpoint)
        if tuning.sets_paths:
            require_live_family(checkpoint)
        self._generation = read_generation_settings(checkpoint)
        set_threads(tuning)
        device = pick_device()
        self._tokenizer = load_tokenizer(spec, checkpoint)
        self._model = load_model(spec, checkpoint, device)
        self.spec = with_backend(spec, attention_of(self._model))
        self._max_length = length_limit(spec, self._model, self._tokenizer)
        self._batch = tuning.batch_size or (BATCH_CUDA if device.type == "cuda" else BATCH_CPU)
        self._layer_path: VisitPath | None = None
        self._paths = LivePaths(self._model, checkpoint)
        if tuning.sets_paths:
            self._paths.require_supported()
        self._weights = LoadedWeights(checkpoint)
        self._weight_loader = WeightLoader(self._model, self.spec, checkpoint)
        # Trees need custom masks and positions, which are verified only for these architectures.
        config = read_config(checkpoint)
        is_live = is_live_family(config)
        self._scorer: Scorer = (
            CachedTreeScorer(self._model, device) if is_live else PlainScorer(self._model, device)
        )
        constant_rope = constant_rope_length(config)
        if constant_rope is not None:
            self._scorer = LengthAwareScorer(self._scorer, self._model, device, constant_rope)
        if is_live and device.type == "cpu":
            from evals.transformers.decoding import use_grouped_attention

            use_grouped_attention(self._model)
        self._generator = Generator(
            self._model,
            self._tokenizer,
            device,
            self._max_length,
            narrows=is_live,
            settings=self._generation,
            constant_rope=constant_rope,
        )

    @property
    def max_length(self) -> int:
        """Longest sequence of the engine, in tokens."""
        return self._max_length

    def score(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        """Log-probabilities of continuations, ordered so that neighbours share prefixes."""
        self._weights.require_whole()
        for index in sorted(range(len(requests)), key=lambda i: requests[i].context):
            if accepts(index):
                with self._named_refusal():
                    result = self._score_one(requests[index])
                yield index, result

    def _score_one(self, request: ScoreRequest) -> ScoreResult:
        context = request.context
        longest = max(map(len, request.continuations))
        if longest > self._max_length:
            raise EngineError(
                f"A continuation of {longest} tokens does not fit into the {self._max_length} tokens of {self.checkpoint}: "
                "raise max_length."
            )
        if len(context) + longest <= self._max_length + 1:
            return self._scorer.score(context, request.continuations)
        parts = []
        for continuation in request.continuations:
            room = self._max_length + 1 - len(continuation)
            parts.append(self._scorer.score(context[-room:], [continuation]))
        return ScoreResult(
            logprobs=tuple(part.logprobs[0] for part in parts),
            is_greedy=tuple(part.is_greedy[0] for part in parts),
        )

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        """Greedy generations, longest prompts first."""
        self._weights.require_whole()
        self._generation.require_supported()
        self._scorer.forget()
        groups: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            if request.max_new_tokens >= self._max_length:
                raise EngineError(
                    f"{request.max_new_tokens} new tokens leave no room for a prompt in the {self._max_length} tokens of "
                    f"{self.checkpoint}: lower the task's limit or raise max_length."
                )
            groups.setdefault(request.max_new_tokens, []).append(index)
        for indices in groups.values():
            indices.sort(key=lambda i: -len(requests[i].prompt))
            remaining = iter(indices)
            while chunk := list(islice((index for index in remaining if accepts(index)), self._batch)):
                with self._named_refusal():
                    answers = self._generator.run([requests[i] for i in chunk])
                yield from zip(chunk, answers, strict=True)

    @contextmanager
    def _named_refusal(self) -> Iterator[None]:
        """Raise EngineError where transformers refuses to run the model, for example one whose layers have no attention."""
        try:
            yield
        except ValueError as error:
            reason = first_line(error)
            path = "" if self._layer_path is None else f" on the layer path {self._layer_path}"
            raise EngineError(f"transformers cannot run {self.checkpoint}{path}: {reason}") from error

    def score_paths(
        self, requests: Sequence[ScoreRequest], paths: Sequence[VisitPath]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        """Every request on every path, one path after another."""
        yield from each_path(self, paths, lambda: self.score(requests))

    def generate_paths(
        self, requests: Sequence[GenerateRequest], paths: Sequence[VisitPath]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        """Every request on every path, one path after another."""
        yield from each_path(self, paths, lambda: self.generate(requests))

    @property
    def layer_path(self) -> VisitPath | None:
        """The layer path; None for the unmodified checkpoint."""
        return self._layer_path

    def set_layer_path(self, layers: VisitPath | None) -> None:
        """Run these visits of layers in this order from the next request on; None for the unmodified checkpoint."""
        self._scorer.forget()
        self._paths.set(layers)
        self._layer_path = layers

    @property
    def weights(self) -> LoadedWeights:
        """The weights that the engine holds."""
        return self._weights

    def load_weights(self, weights: StreamedWeights | None) -> None:
        """Replace all weights in place; None restores the checkpoint's own."""
        self.set_layer_path(None)
        expected = self._weight_loader.expected()
        with self._weights.change(weights.digest if weights else None):
            self._weight_loader.load(weights, expected)

    @property
    def memory(self) -> EngineMemory:
        """Memory of the weights; the KV cache has no fixed size."""
        sizes = {p.data_ptr(): p.numel() * p.element_size() for p in self._model.parameters()}
        return EngineMemory(
            weight_bytes=sum(sizes.values()),
            layer_slots=None,
            block_size=None,
            kv_cache_tokens=None,
            kv_cache_bytes=None,
        )

    def close(self) -> None:
        """Free the model; the engine cannot be used afterwards."""
        import torch

        for name in ("_model", "_paths", "_scorer", "_generator", "_weight_loader"):
            if hasattr(self, name):
                delattr(self, name)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
