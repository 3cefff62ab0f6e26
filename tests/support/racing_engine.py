"""An engine whose layer paths answer the questions of probes as well as the test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from evals.engine import (
    EngineSpec,
    GenerateRequest,
    GenerateResult,
    RequestFilter,
    ScoreRequest,
    ScoreResult,
    accept_all,
)
from evals.journal import request_digest
from evals.layer_visits import VisitPath
from evals.live_paths import each_path
from evals.probes import get_probe
from evals.probes.choice import ChoiceItem
from evals.scores import ChatTemplate
from tests.support.rule_engine import RuleEngine, number_of

Skill = Callable[[VisitPath], float]
"""How much the right choice gains in log-probability on a path; the unmodified checkpoint is ()."""


class RacingEngine(RuleEngine):
    """Scores the choices of probes by a rule: noise that depends on path and request, and the path's skill for the right choice."""

    layer_path: VisitPath | None = None

    def __init__(self, checkpoint: Path, spec: EngineSpec, probes: Sequence[str], skill: Skill) -> None:
        super().__init__(checkpoint, spec)
        self._skill = skill
        self._right = _right_choices(checkpoint, probes)

    def score_paths(
        self, requests: Sequence[ScoreRequest], paths: Sequence[VisitPath]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        yield from each_path(self, paths, lambda: self.score(requests))

    def generate_paths(
        self, requests: Sequence[GenerateRequest], paths: Sequence[VisitPath]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        yield from each_path(self, paths, lambda: self.generate(requests))

    def score(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        for number, answer in super().score(requests, accepts):
            right = self._right[request_digest(requests[number])]
            gains = [self._skill(self._path) * (n == right) for n in range(len(answer.logprobs))]
            noise = [number_of((*self._path, n, *requests[number].context)) / 100 for n in range(len(gains))]
            yield (
                number,
                answer.model_copy(
                    update={"logprobs": tuple(g + x - 2 for g, x in zip(gains, noise, strict=True))}
                ),
            )


def _right_choices(checkpoint: Path, probes: Sequence[str]) -> dict[str, int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
    right: dict[str, int] = {}
    for name in probes:
        probe = get_probe(name)
        for item, request in zip(probe.items, probe.requests(tokenizer, ChatTemplate.OFF), strict=True):
            assert isinstance(item, ChoiceItem)
            right[request_digest(request)] = item.answer
    return right
