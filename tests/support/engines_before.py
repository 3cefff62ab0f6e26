"""Engines that stand before another one, and who has answered what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from evals.engine import (
    EngineMemory,
    GenerateRequest,
    GenerateResult,
    PathEngine,
    RequestFilter,
    ScoreRequest,
    ScoreResult,
    accept_all,
)
from evals.weights import LoadedWeights, StreamedWeights

Request = ScoreRequest | GenerateRequest


class Before:
    """The engine behind it; subclasses look at what is asked and at what is answered."""

    def __init__(self, behind: PathEngine) -> None:
        self.spec, self.checkpoint = behind.spec, behind.checkpoint
        self._behind = behind

    def asked(self, requests: Sequence[Request]) -> None:
        """Called with what is asked."""

    def answered(self, index: int, request: Request) -> bool:
        """Called before an answer is handed on; whether it is."""
        return True

    def score(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        self.asked(requests)
        for index, answer in self._behind.score(requests, accepts):
            if self.answered(index, requests[index]):
                yield index, answer

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        self.asked(requests)
        for index, answer in self._behind.generate(requests, accepts):
            if self.answered(index, requests[index]):
                yield index, answer

    def score_paths(
        self, requests: Sequence[ScoreRequest], paths: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        return self._behind.score_paths(requests, paths)

    def generate_paths(
        self, requests: Sequence[GenerateRequest], paths: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        return self._behind.generate_paths(requests, paths)

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        self._behind.set_layer_path(layers)

    @property
    def layer_path(self) -> tuple[int, ...] | None:
        return self._behind.layer_path

    @property
    def max_length(self) -> int:
        return self._behind.max_length

    @property
    def weights(self) -> LoadedWeights:
        return self._behind.weights

    def load_weights(self, weights: StreamedWeights | None) -> None:
        self._behind.load_weights(weights)

    @property
    def memory(self) -> EngineMemory:
        return self._behind.memory

    def close(self) -> None:
        self._behind.close()


class Slow(Before):
    """Pauses before every answer; then whatever else is to happen."""

    def __init__(
        self, behind: PathEngine, after: Callable[[], None] = lambda: None, *, pause_s: float = 0.02
    ) -> None:
        super().__init__(behind)
        self._after = after
        self._pause_s = pause_s

    def answered(self, index: int, request: Request) -> bool:
        time.sleep(self._pause_s)
        self._after()
        return True


def answers_by_writer(journal: Path) -> list[list[str]]:
    """Digests of the requests that each writer of a journal has answered."""
    found = []
    for file in sorted(journal.glob("*.journal")):
        lines = file.read_text().splitlines()[1:]
        found.append([json.loads(line.partition(" ")[2])["k"] for line in lines])
    return found
