"""An engine that answers by a rule instead of a model: real prompts, tokenizer, journal and scoring, and no arithmetic."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from evals.engine import (
    EngineKind,
    EngineSpec,
    GenerateRequest,
    GenerateResult,
    RequestFilter,
    ScoreRequest,
    ScoreResult,
    accept_all,
)
from evals.layer_visits import VisitPath
from evals.weights import LoadedWeights


class RuleEngine:
    """Each answer is a function of its request alone; `asked` counts the requests."""

    max_length = 4096

    def __init__(self, checkpoint: Path, spec: EngineSpec | None = None) -> None:
        self.checkpoint = checkpoint
        self.spec = spec or EngineSpec(
            kind=EngineKind.TRANSFORMERS, version="0", dtype="float32", max_length=4096
        )
        self.weights = LoadedWeights(checkpoint)
        self.asked = 0
        self._path: VisitPath = ()

    def score(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        for number, request in enumerate(requests):
            if accepts(number):
                self.asked += 1
                values = [number_of((*self._path, *request.context, *c)) for c in request.continuations]
                yield number, ScoreResult(logprobs=tuple(values), is_greedy=(False,) * len(values))

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        for number, request in enumerate(requests):
            if accepts(number):
                self.asked += 1
                text = f"The answer is {-number_of((*self._path, *request.prompt)):.0f}."
                yield number, GenerateResult(text=text, n_tokens=5, finish_reason="stop")

    def set_layer_path(self, layers: VisitPath | None) -> None:
        """Answers depend on the path."""
        self._path = layers or ()

    def close(self) -> None:
        """Nothing to free."""


def number_of(tokens: Sequence[object]) -> float:
    """A log-probability of 0 to -99.9 that is a function of the tokens."""
    return -(zlib.crc32(",".join(map(str, tokens)).encode()) % 1000) / 10
