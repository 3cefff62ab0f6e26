"""An engine that takes its time, and who has answered what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from evals.engine import (
    Engine,
    GenerateRequest,
    GenerateResult,
    ScoreRequest,
    ScoreResult,
    Wanted,
    all_wanted,
)


class Slow:
    """The engine behind it, with a pause after every answer, and whatever else is to happen then."""

    def __init__(
        self, behind: Engine, after: Callable[[], None] = lambda: None, *, pause_s: float = 0.02
    ) -> None:
        self.spec, self.checkpoint, self.max_length = behind.spec, behind.checkpoint, behind.max_length
        self._behind = behind
        self._after = after
        self._pause_s = pause_s

    def score(
        self, requests: Sequence[ScoreRequest], wanted: Wanted = all_wanted
    ) -> Iterator[tuple[int, ScoreResult]]:
        for answer in self._behind.score(requests, wanted):
            self._pause()
            yield answer

    def generate(
        self, requests: Sequence[GenerateRequest], wanted: Wanted = all_wanted
    ) -> Iterator[tuple[int, GenerateResult]]:
        for answer in self._behind.generate(requests, wanted):
            self._pause()
            yield answer

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        self._behind.set_layer_path(layers)

    def close(self) -> None:
        """It is not ours to close."""

    def _pause(self) -> None:
        time.sleep(self._pause_s)
        self._after()


def answered(journal: Path) -> list[list[str]]:
    """Digests of the requests that each writer of a journal has answered."""
    found = []
    for file in sorted(journal.glob("*.journal")):
        lines = file.read_text().splitlines()[1:]
        found.append([json.loads(line.partition(" ")[2])["k"] for line in lines])
    return found
