"""Self-check of an engine's layer paths when it opens, for models that are not of the families that tests compare.

The baseline through copies of the layers, with KV caches that are not their own, must give the scores of the engine's own model,
a path that moves every layer must give each layer what it gets in the unmodified model, and on paths that repeat every layer tokens
that are decoded one by one, with the KV caches of earlier steps, must have the log-probabilities of one pass over all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evals.engine import ScoreRequest, ScoreResult
from evals.errors import first_line
from evals.vllm.queue import Prompt, RequestQueue

if TYPE_CHECKING:
    from vllm import LLM

LOOSE, STRICT = 0.25, 1e-3
"""Largest difference of a log-probability of up to four tokens, for 16-bit dtypes and float32."""
RECORDED = 12
"""Length of the prompt whose calls are recorded; less than a block, so that it is never taken from the prefix cache."""
_DECODED = 4
"""Tokens that are decoded one by one; with the recorded prompt less than a block."""
_CONTEXT = 45
"""Length of the scored contexts; more than a block, so that continuations read the cache."""

_FROM_MODEL = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
"""Errors of a model's own code when its layers are moved."""

Scores = Callable[[Sequence[ScoreRequest]], list[ScoreResult]]
PathScores = Callable[[tuple[int, ...], Sequence[ScoreRequest]], list[ScoreResult]]
"""Scores on a layer path."""


class PathCheck:
    """Tries layer paths of one open engine; leaves it with the unmodified model."""

    def __init__(self, llm: LLM, queue: RequestQueue, n_layers: int, vocabulary: int, scores: Scores) -> None:
        """`scores` answers requests on the current layers, with an empty prefix cache."""
        self._llm = llm
        self._queue = queue
        self._n_layers = n_layers
        self._scores = scores
        tokens = tuple((7 * place + 1) % vocabulary for place in range(_CONTEXT + 4))
        self.recorded = tokens[:RECORDED]
        context, rest = tokens[:_CONTEXT], tokens[_CONTEXT:]
        self.requests = [
            ScoreRequest(context=context, continuations=(rest, rest[:2], (tokens[3],))),
            ScoreRequest(context=(*context[:38], *rest), continuations=(rest[1:], rest[:1])),
        ]
        self._expected: list[ScoreResult] = []

    def difference(self, slots: int, limit: float) -> str | None:
        """How layer paths would differ from built checkpoints, in an engine with this many KV caches; None if they do not.

        After an error of the model's code the engine may be unusable: it must be closed if a reason is returned.
        """
        try:
            return self._difference(slots, limit)
        except _FROM_MODEL as error:
            text = first_line(error)
            return f"its layers do not run in another order ({text})"

    def _difference(self, slots: int, limit: float) -> str | None:
        count = self._n_layers
        identity = tuple(range(count))
        self._expected = self._scores(self.requests)
        self._rpc("place_layers", identity, tuple((slot + 1) % slots for slot in identity))
        moved = self._scores(self.requests)
        self._rpc("set_layer_path", None)
        gap = largest_gap(moved, self._expected)
        if gap > limit:
            return f"the baseline through copies of its layers differs from the model by {gap:.2g} nats"
        for layers in (None, tuple(reversed(identity))):
            self._rpc("set_layer_path", layers)
            self._rpc("start_recording")
            self._run_recorded()
            reasons = [reason for reason in self._rpc("stop_recording") if reason is not None]
            if reasons:
                self._rpc("set_layer_path", None)
                return str(reasons[0])
        for layers in repeating(count, slots):
            self._rpc("set_layer_path", layers)
            gap = self._decoding_gap()
            if gap > limit:
                self._rpc("set_layer_path", None)
                return f"its layers do not keep separate states for separate visits (a difference of {gap:.2g} nats)"
        self._rpc("set_layer_path", None)
        return None

    def _decoding_gap(self) -> float:
        """Largest difference of the log-probability of tokens that are decoded one by one from that of one pass, on the current path."""
        from vllm import SamplingParams

        params = SamplingParams(
            max_tokens=_DECODED, temperature=0.0, ignore_eos=True, logprobs=0, detokenize=False
        )
        self._scores([])  # an empty prefix cache
        ((_, output),) = self._queue.run([Prompt(key=(0,), tokens=self.recorded, params=params)])
        tokens = tuple(output.outputs[0].token_ids)
        steps = [step[token].logprob for step, token in zip(output.outputs[0].logprobs, tokens, strict=True)]
        decoded = ScoreResult(logprobs=tuple(itertools.accumulate(steps)), is_greedy=(True,) * len(tokens))
        continuations = tuple(tokens[: end + 1] for end in range(len(tokens)))
        (whole,) = self._scores([ScoreRequest(context=self.recorded, continuations=continuations)])
        return largest_gap([whole], [decoded])

    def agrees(self, scores: PathScores, slots: int, limit: float) -> bool:
        """Whether another way to score gives the same results, on the unmodified model and on a path of another length.

        Some models read their number of layers while they run. After `difference`; `slots` is the number of KV caches.
        """
        identity = tuple(range(self._n_layers))
        other = (0, *identity) if slots > self._n_layers else identity[:-1] or identity
        self._rpc("set_layer_path", other)
        expected = self._scores(self.requests)
        self._rpc("set_layer_path", None)
        return (
            largest_gap(scores(identity, self.requests), self._expected) <= limit
            and largest_gap(scores(other, self.requests), expected) <= limit
        )

    def _run_recorded(self) -> None:
        from vllm import SamplingParams

        prompt = Prompt(key=(0,), tokens=self.recorded, params=SamplingParams(max_tokens=1, temperature=0.0))
        for _ in self._queue.run([prompt]):
            pass

    def _rpc(self, name: str, *arguments: Any) -> list[Any]:
        return list(self._llm.collective_rpc(name, args=arguments))


def repeating(count: int, slots: int) -> list[tuple[int, ...]]:
    """Paths of at most `slots` visits in which all of `count` layers run twice in a row, some layers in each path."""
    each = max(slots // 2, 1)
    return [
        tuple(layer for layer in range(begin, min(begin + each, count)) for _ in range(min(slots, 2)))
        for begin in range(0, count, each)
    ]


def largest_gap(results: Sequence[ScoreResult], expected: Sequence[ScoreResult]) -> float:
    """Largest difference of log-probabilities; infinite if one is not a number."""
    gaps = [
        abs(a - b)
        for result, other in zip(results, expected, strict=True)
        for a, b in zip(result.logprobs, other.logprobs, strict=True)
    ]
    return max((float("inf") if math.isnan(gap) else gap for gap in gaps), default=float("inf"))
