"""Adapts an engine to lm-eval's model interface; answers come from the journal first."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evals.engine import (
    Engine,
    EngineKind,
    GenerateRequest,
    GenerateResult,
    RequestFilter,
    Sampling,
    ScoreRequest,
    ScoreResult,
)
from evals.errors import EngineError, EvaluationError
from evals.harness.progress import ProgressTracker
from evals.harness.slices import Slices
from evals.harness.tokenization import Tokenization
from evals.harness.written import Written
from evals.journal import Journal, Request, Result, request_digest
from evals.sharing import PATIENCE_S, STRETCH, StretchLocks

DEFAULT_MAX_NEW_TOKENS = 256
"""lm-eval's limit for tasks without one."""

TEXTS_AT_ONCE = 4096
"""Number of lm-eval requests that are tokenised together; bounds memory."""

REFRESH_EVERY_S = 2.0
"""Interval, in seconds, at which the journal is read for answers of other processes."""


Answer = TypeVar("Answer")


class Helped(Exception):
    """Raised in a helper when nothing is left to claim."""


class EngineLM(TemplateLM):
    """An engine behind lm-eval's interface.

    Choices of one question share one request, and identical requests run once. Tokenization follows
    `TemplateLM._encode_pair`, as in lm-eval's own models.
    """

    def __init__(
        self,
        engine: Engine,
        tokenization: Tokenization,
        journal: Journal,
        progress: ProgressTracker,
        claims: StretchLocks,
        *,
        leads: bool = True,
        seed: int = 0,
        slices: Slices | None = None,
    ) -> None:
        """`seed` is that of sampled answers. With `leads` false it raises `Helped` when nothing is left to claim.

        With `slices` the documents are asked in slices, and it raises `DecidedEarly` when their rule has decided.
        """
        super().__init__()
        self.tokenizer = tokenization.tokenizer
        self._engine = engine
        self._tokenization = tokenization
        self._journal = journal
        self._progress = progress
        self._claims = claims
        self._leads = leads
        self._seed = seed
        self._slices = slices
        self.written: dict[tuple[str, int], Written] = {}

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token that replaces an empty context."""
        token = self._tokenization.prefix_token_id
        if token is None:
            raise EvaluationError(
                f"The tokenizer of {self._engine.checkpoint} has neither a BOS nor an EOS token, and a task has an empty "
                "prompt; name one in its tokenizer_config.json."
            )
        return token

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer."""
        return str(self._engine.checkpoint).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: object) -> list[int]:
        """Token ids of a text."""
        return self._tokenization.encode(string, add_special_tokens=add_special_tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A chat as one text."""
        return self._tokenization.render(chat_history, add_generation_prompt)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy decoding would generate it."""
        return self._in_slices(requests, self._loglikelihood)

    def _in_slices(
        self, requests: list[Instance], ask: Callable[[list[Instance]], list[Answer]]
    ) -> list[Answer]:
        if self._slices is None:
            return ask(requests)
        self._progress.expect(self._slices.most_asked(len(requests)))
        return self._slices.answer(requests, ask, self.written)

    def _loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        score_requests: list[ScoreRequest] = []
        places: list[tuple[int, int]] = []
        for begin in range(0, len(requests), TEXTS_AT_ONCE):
            self._add_score_requests(requests[begin : begin + TEXTS_AT_ONCE], score_requests, places)
        answers = cast("list[ScoreResult]", self._answers(score_requests))
        return [
            (answers[request].logprobs[choice], answers[request].is_greedy[choice])
            for request, choice in places
        ]

    def _add_score_requests(
        self, requests: Sequence[Instance], score_requests: list[ScoreRequest], places: list[tuple[int, int]]
    ) -> None:
        """Append the engine's requests, and for each of lm-eval's the indices of its request and choice."""
        self._encode_pairs([request.args for request in requests])
        for _, group in groupby(requests, key=lambda r: (r.task_name, r.doc_id)):
            pairs = [self._encode_request(request) for request in group]
            for context, same_context in groupby(pairs, key=lambda pair: pair[0]):
                continuations = tuple(continuation for _, continuation in same_context)
                places += [(len(score_requests), rank) for rank in range(len(continuations))]
                score_requests.append(ScoreRequest(context=context, continuations=continuations))

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        # `_encode_pair` moves spaces from the end of the context to the continuation; the joined text stays the same.
        texts = {
            text for context, continuation in pairs for text in (context.rstrip(), context + continuation)
        }
        self._tokenization.encode_batch(text for text in texts if text)

    def _encode_request(self, request: Instance) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a request's context and continuation; EvaluationError if the continuation has no token.

        Its log-probability would be 0, the highest of all choices. lm-eval's `hf` model fails with an assertion here, its `vllm`
        model returns 0.
        """
        context, continuation = self._encode(*request.args)
        if not continuation:
            text = request.args[1]
            reason = (
                "the tokenizer merges it into the last tokens of the prompt"
                if text
                else "it is an empty text"
            )
            raise EvaluationError(
                f"Choice {request.idx} ({text[:80]!r}) of document {request.doc_id} of {request.task_name} has no token of its "
                f"own, {reason}; it has no log-probability to compare: change the task's choices or its target_delimiter, or "
                "leave the task out."
            )
        return context, continuation

    def _encode(self, context: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if context == "":
            tokens = self.tok_encode(continuation, add_special_tokens=False)
            if tokens and tokens[0] == self.prefix_token_id:
                return tuple(tokens[:1]), tuple(tokens[1:])
            return (self.prefix_token_id,), tuple(tokens)
        context_tokens, continuation_tokens = self._encode_pair(context, continuation)
        if not context_tokens:  # the context consists of spaces
            return (self.prefix_token_id,), tuple(continuation_tokens)
        return tuple(context_tokens), tuple(continuation_tokens)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The continuation of each prompt, greedy or sampled; repeats of a request draw with seeds of their own."""
        return self._in_slices(requests, self._generate_until)

    def _generate_until(self, requests: list[Instance]) -> list[str]:
        self._tokenization.encode_batch(request.args[0] for request in requests)
        repeats: Counter[int] = Counter()
        generate_requests = []
        for request in requests:
            generate_requests.append(self._generate_request(request, repeats[id(request)]))
            repeats[id(request)] += 1
        answers = cast("list[GenerateResult]", self._answers(generate_requests))
        for request, answer in zip(requests, answers, strict=True):
            self.written[request.task_name, request.doc_id] = Written(
                n_tokens=answer.n_tokens, truncated=answer.finish_reason == "length"
            )
        return [answer.text for answer in answers]

    def _generate_request(self, request: Instance, repeat: int) -> GenerateRequest:
        prompt, gen_kwargs = request.args
        kwargs = normalize_gen_kwargs(gen_kwargs, DEFAULT_MAX_NEW_TOKENS)
        tokens = self.tok_encode(prompt) or [self.prefix_token_id]
        sampling = sampling_of(dict(kwargs), self._seed, prompt, repeat) if kwargs["do_sample"] else None
        return GenerateRequest(
            prompt=tuple(tokens),
            max_new_tokens=int(kwargs["max_gen_toks"]),
            stop=tuple(s for s in kwargs["until"] if s),
            sampling=sampling,
        )

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each document, in windows of the engine's length as lm-eval's own model of the engine makes them."""
        return self._in_slices(requests, self._loglikelihood_rolling)

    def _loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        length = self._engine.max_length - (2 if self._engine.spec.kind is EngineKind.VLLM else 0)
        score_requests: list[ScoreRequest] = []
        counts = []
        for request in requests:
            windows = [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=length,
                    context_len=1,
                )
            ]
            score_requests += [
                ScoreRequest(context=tuple(context), continuations=(tuple(continuation),))
                for context, continuation in windows
            ]
            counts.append(len(windows))
        answers = iter(cast("list[ScoreResult]", self._answers(score_requests)))
        return [sum(next(answers).logprobs[0] for _ in range(count)) for count in counts]

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: object) -> list[tuple[float, bool]]:
        raise NotImplementedError("`loglikelihood` calls the engine directly.")

    def _answers(self, requests: Sequence[Request]) -> list[Result]:
        """Answers to all requests, from the journal or else from the engine; the engine's are added to the journal at once."""
        digests = [request_digest(request) for request in requests]
        times = Counter(digests)
        unique = dict(
            sorted(dict(zip(digests, requests, strict=True)).items(), key=lambda item: _schedule_key(item[1]))
        )
        pending = {digest: times[digest] for digest in unique if self._journal.get(digest) is None}
        self._progress.plan(
            len(requests), sum(_cost(unique[d]) for d in pending), len(requests) - sum(pending.values())
        )
        stretches = {digest: f"{place // STRETCH}" for place, digest in enumerate(unique)}

        def claim(digest: str) -> bool:
            return self._claims.take(stretches[digest])

        if not self._leads:
            while self._claims.limit(stretches[digest] for digest in pending):
                self._run_pending(unique, pending, claim)
            self._journal.sync()
            raise Helped
        self._run_pending(unique, pending, claim)
        self._await_helpers(unique, pending, claim)
        self._run_pending(unique, pending, lambda digest: True)
        self._journal.sync()
        self._progress.show()
        return [self._stored_answer(digest) for digest in digests]

    def _run_pending(
        self, unique: Mapping[str, Request], pending: dict[str, int], claim: Callable[[str], bool]
    ) -> None:
        """Run the pending requests that `claim` grants; removes answered requests, of this or other processes, from `pending`."""
        digests = list(pending)
        refreshed_at = time.monotonic()
        for index, result in self._run_engine(
            [unique[digest] for digest in digests], lambda i: digests[i] in pending and claim(digests[i])
        ):
            self._journal.put(digests[index], result)
            if digests[index] in pending:
                written = result.n_tokens if isinstance(result, GenerateResult) else 0
                request = unique[digests[index]]
                self._progress.add_answers(
                    pending.pop(digests[index]), _n_tokens(request) + written, _cost(request)
                )
            if time.monotonic() - refreshed_at > REFRESH_EVERY_S:
                refreshed_at = time.monotonic()
                self._remove_answered(unique, pending)

    def _remove_answered(self, unique: Mapping[str, Request], pending: dict[str, int]) -> int:
        """Remove requests that other processes have answered from `pending`; returns their number."""
        if not self._journal.refresh():
            return 0
        answered = [digest for digest in pending if self._journal.get(digest) is not None]
        for digest in answered:
            self._progress.add_shared(pending.pop(digest), _cost(unique[digest]))
        return len(answered)

    def _await_helpers(
        self, unique: Mapping[str, Request], pending: dict[str, int], claim: Callable[[str], bool]
    ) -> None:
        """Wait for requests that helpers have claimed, while answers keep arriving."""
        answered_at = time.monotonic()
        while not all(map(claim, pending)) and time.monotonic() - answered_at < PATIENCE_S:
            if self._remove_answered(unique, pending):
                answered_at = time.monotonic()
            else:
                time.sleep(REFRESH_EVERY_S / 4)

    def _run_engine(
        self, requests: Sequence[Request], accepts: RequestFilter
    ) -> Iterator[tuple[int, Result]]:
        if not requests:
            return
        if isinstance(requests[0], ScoreRequest):
            yield from self._engine.score(cast("Sequence[ScoreRequest]", requests), accepts)
        else:
            yield from self._engine.generate(cast("Sequence[GenerateRequest]", requests), accepts)

    def _stored_answer(self, digest: str) -> Result:
        result = self._journal.get(digest)
        if result is None:
            raise EngineError(
                f"The {self._engine.spec.kind} engine left a request without an answer; run the same command again to resume."
            )
        return result


def sampling_of(kwargs: Mapping[str, Any], seed: int, prompt: str, repeat: int) -> Sampling:
    """How a task's `generation_kwargs` draw tokens; the seed is of the evaluation, the prompt and the repeat.

    EvaluationError for an option that would change the draws and is not known.
    """
    unknown = set(kwargs) - {"do_sample", "temperature", "top_p", "top_k", "until", "max_gen_toks"}
    if unknown:
        raise EvaluationError(
            f"A task samples with {', '.join(sorted(unknown))}; only temperature, top_p and top_k are supported: take it out of the task's "
            "generation_kwargs."
        )
    digest = hashlib.sha256(f"{seed} {repeat} {prompt}".encode()).digest()
    return Sampling(
        temperature=float(kwargs.get("temperature") or 1.0),
        top_p=float(kwargs.get("top_p") or 1.0),
        top_k=max(0, int(kwargs.get("top_k") or 0)),
        seed=int.from_bytes(digest[:4], "big"),
    )


def _schedule_key(request: Request) -> tuple[int, tuple[int, ...]]:
    """Sort key: the order in which engines start requests."""
    if isinstance(request, ScoreRequest):
        return 0, request.context
    return -len(request.prompt), request.prompt


def _n_tokens(request: Request) -> int:
    if isinstance(request, ScoreRequest):
        return len(request.context) + sum(map(len, request.continuations))
    return len(request.prompt)


def _cost(request: Request) -> int:
    """Approximate work in tokens: a generated token takes a forward pass, prompt tokens share passes."""
    if isinstance(request, ScoreRequest):
        return _n_tokens(request)
    return len(request.prompt) + 2 * request.max_new_tokens
