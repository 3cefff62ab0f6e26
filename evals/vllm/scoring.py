"""Log-probabilities of continuations through vLLM's scheduler and prefix cache.

lm-eval's vLLM model computes every choice of every question from the first token. Here the choices of a question follow each
other, so that all but the last block of their context comes from the prefix cache, and a question whose choices are single
tokens is one sequence.

vLLM's model runners return different rows of a prompt. V1 (CPU builds) returns a row for every token, of which those after
the cached prefix are valid; V2 (GPUs) returns the uncached tokens only. Both end with the prompt, so rows are counted from the
end. V2 can also return selected rows and tokens (`RequestQueue.scores_named_rows`): only these rows go through the head, but
without their likeliest tokens, which are requested separately if the log-probabilities do not decide (`evals.vllm.greedy`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evals.engine import RequestFilter, ScoreRequest, ScoreResult, accept_all
from evals.errors import EngineError
from evals.vllm.greedy import GreedyRow, RowScores
from evals.vllm.queue import Prompt, RequestQueue

if TYPE_CHECKING:
    from vllm import RequestOutput

MOST_NAMED_TOKENS = 100
"""Below vLLM's limit of 128 selected tokens per sequence."""


@dataclass
class _Question:
    """A question with its partial answers."""

    request: ScoreRequest
    max_length: int
    logprobs: dict[int, float] = field(default_factory=dict)
    is_greedy: dict[int, bool] = field(default_factory=dict)
    rows: RowScores = field(default_factory=RowScores)

    def context(self, choice: int) -> tuple[int, ...]:
        return truncated(self.request.context, self.request.continuations[choice], self.max_length)

    def next_undecided_row(self) -> GreedyRow | None:
        """A row whose likeliest token decides whether a scored choice is greedy; None if all choices are decided."""
        for choice in self.logprobs.keys() - self.is_greedy.keys():
            answer = self.rows.is_greedy(self.context(choice), self.request.continuations[choice])
            if isinstance(answer, GreedyRow):
                return answer
            self.is_greedy[choice] = answer
        return None

    def result(self) -> ScoreResult:
        """The question's result; requires all choices."""
        choices = range(len(self.request.continuations))
        return ScoreResult(
            logprobs=tuple(self.logprobs[choice] for choice in choices),
            is_greedy=tuple(self.is_greedy[choice] for choice in choices),
        )


@dataclass(frozen=True)
class _Choice(Prompt):
    """A context with one of its continuations."""

    choice: int


@dataclass(frozen=True)
class _OneTokenChoices(Prompt):
    """A context whose continuations are single tokens."""


@dataclass(frozen=True)
class _LikeliestToken(Prompt):
    """The tokens up to a row whose likeliest token is requested."""

    row: GreedyRow


def truncated(context: tuple[int, ...], continuation: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """The context truncated on the left as in lm-eval's `vllm` model; EngineError if the continuation does not fit."""
    room = max_length - 1 - len(continuation)
    if room < 1:
        raise EngineError(
            f"A continuation of {len(continuation)} tokens does not fit into {max_length} tokens: raise max_length."
        )
    return context[-room:]


def scores(
    queue: RequestQueue,
    requests: Sequence[ScoreRequest],
    max_length: int,
    accepts: RequestFilter = accept_all,
) -> Iterator[tuple[int, ScoreResult]]:
    """Results of the requests, each after its last continuation."""
    open_questions: dict[int, _Question] = {}
    follow_ups: deque[Prompt] = deque()
    prompts = _prompts(requests, max_length, accepts, named_rows=queue.scores_named_rows)
    for prompt, output in queue.run(prompts, follow_ups):
        index = prompt.key[0]
        question = open_questions.setdefault(index, _Question(requests[index], max_length))
        if isinstance(prompt, _OneTokenChoices):
            _add_named_tokens(question, output)
        elif isinstance(prompt, _LikeliestToken):
            question.rows.add_likeliest(prompt.row, output.outputs[0].token_ids[0])
        elif isinstance(prompt, _Choice) and not _add_continuation(question, prompt, output):
            follow_ups.append(_uncached(prompt))
        if len(question.logprobs) < len(question.request.continuations):
            continue
        row = question.next_undecided_row()
        if row is None:
            del open_questions[index]
            yield index, question.result()
        else:
            follow_ups.append(_likeliest_token(index, row))


def _prompts(
    requests: Sequence[ScoreRequest], max_length: int, accepts: RequestFilter, *, named_rows: bool
) -> Iterator[Prompt]:
    """Sequences, ordered so that neighbours share prefixes."""
    from vllm import SamplingParams

    for index in sorted(range(len(requests)), key=lambda i: requests[i].context):
        if not accepts(index):
            continue
        request = requests[index]
        tokens = sorted({c[0] for c in request.continuations})
        if all(len(c) == 1 for c in request.continuations) and len(tokens) <= MOST_NAMED_TOKENS:
            context = truncated(request.context, (0,), max_length)
            params = SamplingParams(temperature=0, max_tokens=1, detokenize=False, logprob_token_ids=tokens)
            yield _OneTokenChoices((index,), context, params)
            continue
        for choice, continuation in enumerate(request.continuations):
            context = truncated(request.context, continuation, max_length)
            rows: dict[str, object] = {"prompt_logprobs": 0}
            if named_rows:
                rows = {
                    "prompt_logprob_start": len(context) - 1,
                    "prompt_logprob_token_ids": [[token] for token in continuation],
                }
            params = SamplingParams(
                temperature=0, max_tokens=1, detokenize=False, skip_reading_prefix_cache=False, **rows
            )
            yield _Choice((index,), context + continuation, params, choice)


def _uncached(prompt: _Choice) -> _Choice:
    params = prompt.params.clone()
    params.skip_reading_prefix_cache = True
    return replace(prompt, params=params)


def _likeliest_token(index: int, row: GreedyRow) -> _LikeliestToken:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=1, detokenize=False)
    return _LikeliestToken((index,), row.context + row.continued, params, row)


def _add_named_tokens(question: _Question, output: RequestOutput) -> None:
    table = output.outputs[0].logprobs[0]
    best = output.outputs[0].token_ids[0]
    for choice, (token,) in enumerate(question.request.continuations):
        question.logprobs[choice] = table[token].logprob
        question.is_greedy[choice] = token == best


def _add_continuation(question: _Question, prompt: _Choice, output: RequestOutput) -> bool:
    """Add the answer; False if it lacks rows, because the cached prefix reached into the continuation."""
    continuation = question.request.continuations[prompt.choice]
    begin = len(prompt.tokens) - len(continuation)
    if (output.num_cached_tokens or 0) >= begin:
        return False
    if prompt.params.prompt_logprobs is None:
        token_logprobs = output.prompt_token_id_logprobs
        # vLLM drops them if a preempted request resumed after its first selected row.
        if token_logprobs is None:
            return False
        logprobs = [float(value) for value in token_logprobs[:, 0]]
        question.rows.add_logprobs(question.context(prompt.choice), continuation, logprobs)
    else:
        rows = output.prompt_logprobs[-len(continuation) :]
        if len(rows) < len(continuation) or rows[0] is None:
            return False
        entries = [row[token] for row, token in zip(rows, continuation, strict=True)]
        logprobs = [entry.logprob for entry in entries]
        question.is_greedy[prompt.choice] = all(entry.rank == 1 for entry in entries)
    question.logprobs[prompt.choice] = sum(logprobs)
    return True
