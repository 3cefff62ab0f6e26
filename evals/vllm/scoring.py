"""Log-probabilities of continuations through vLLM's scheduler and prefix cache.

Stock lm-eval has every choice of every question computed from its first token. Here the choices of a question follow each
other, so that all but the last block of their context comes from the prefix cache, and where every choice is one token
the question is a single sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.engine import ScoreRequest, ScoreResult, Wanted, all_wanted
from evals.errors import EngineError
from evals.vllm.queue import Prompt, RequestQueue

if TYPE_CHECKING:
    from vllm import RequestOutput

MOST_NAMED_TOKENS = 100
"""vLLM gives log-probabilities of at most 128 named tokens from one sequence."""


@dataclass
class _Question:
    """A question while its answers come in."""

    logprobs: list[float | None]
    is_greedy: list[bool]

    def result(self) -> ScoreResult | None:
        if any(value is None for value in self.logprobs):
            return None
        return ScoreResult(
            logprobs=tuple(value for value in self.logprobs if value is not None),
            is_greedy=tuple(self.is_greedy),
        )


def truncated(context: tuple[int, ...], continuation: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """The context without what does not fit on its left, as lm-eval's vllm model truncates."""
    room = max_length - 1 - len(continuation)
    if room < 1:
        raise EngineError(
            f"A continuation of {len(continuation)} tokens does not fit into {max_length} tokens: raise max_length."
        )
    return context[-room:]


def scores(
    queue: RequestQueue, requests: Sequence[ScoreRequest], max_length: int, wanted: Wanted = all_wanted
) -> Iterator[tuple[int, ScoreResult]]:
    """Results of the requests, each as soon as its last continuation is known."""
    open_questions: dict[int, _Question] = {}
    retries: list[Prompt] = []
    for batch in (_prompts(requests, max_length, wanted), retries):
        for prompt, output in queue.run(batch):
            index = prompt.key[0]
            request = requests[index]
            n = len(request.continuations)
            question = open_questions.setdefault(index, _Question([None] * n, [False] * n))
            if len(prompt.key) == 1:
                _take_named_tokens(question, request, output)
            elif not _take_continuation(question, request, prompt, output):
                retries.append(_uncached(prompt))
            result = question.result()
            if result is not None:
                del open_questions[index]
                yield index, result


def _prompts(requests: Sequence[ScoreRequest], max_length: int, wanted: Wanted) -> Iterator[Prompt]:
    """Sequences in an order in which neighbours share their prefixes."""
    from vllm import SamplingParams

    for index in sorted(range(len(requests)), key=lambda i: requests[i].context):
        if not wanted(index):
            continue
        request = requests[index]
        named = sorted({c[0] for c in request.continuations})
        if all(len(c) == 1 for c in request.continuations) and len(named) <= MOST_NAMED_TOKENS:
            context = truncated(request.context, (0,), max_length)
            params = SamplingParams(temperature=0, max_tokens=1, detokenize=False, logprob_token_ids=named)
            yield Prompt((index,), context, params)
            continue
        for choice, continuation in enumerate(request.continuations):
            context = truncated(request.context, continuation, max_length)
            params = SamplingParams(
                temperature=0,
                max_tokens=1,
                detokenize=False,
                prompt_logprobs=0,
                skip_reading_prefix_cache=False,
            )
            yield Prompt((index, choice), context + continuation, params)


def _uncached(prompt: Prompt) -> Prompt:
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0, max_tokens=1, detokenize=False, prompt_logprobs=0, skip_reading_prefix_cache=True
    )
    return Prompt(prompt.key, prompt.tokens, params)


def _take_named_tokens(question: _Question, request: ScoreRequest, output: RequestOutput) -> None:
    table = output.outputs[0].logprobs[0]
    best = output.outputs[0].token_ids[0]
    for choice, (token,) in enumerate(request.continuations):
        question.logprobs[choice] = table[token].logprob
        question.is_greedy[choice] = token == best


def _take_continuation(
    question: _Question, request: ScoreRequest, prompt: Prompt, output: RequestOutput
) -> bool:
    """Whether the answer could be taken: a cache that reaches into the continuation hides its first tokens."""
    choice = prompt.key[1]
    continuation = request.continuations[choice]
    begin = len(prompt.tokens) - len(continuation)
    if (output.num_cached_tokens or 0) >= begin:
        return False
    entries = [output.prompt_logprobs[begin + i][token] for i, token in enumerate(continuation)]
    question.logprobs[choice] = sum(entry.logprob for entry in entries)
    question.is_greedy[choice] = all(entry.rank == 1 for entry in entries)
    return True
