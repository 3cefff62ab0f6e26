"""lm-eval's view of an engine: its requests become the engine's, and answers are taken from the journal first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from evals.engine import Engine, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult, Wanted
from evals.errors import EngineError, EvaluationError
from evals.harness.progress import ProgressTracker
from evals.harness.tokenization import Tokenization
from evals.journal import Journal, Request, Result, request_digest
from evals.sharing import PATIENCE_S, STRETCH, StretchLocks

DEFAULT_MAX_NEW_TOKENS = 256
"""lm-eval's limit for tasks that set none."""

TEXTS_AT_ONCE = 4096
"""Texts whose tokens are held at a time while requests are made."""

LOOK_EVERY_S = 2.0
"""Seconds after which the journal is read for what other processes have answered."""


class Helped(Exception):
    """A helper has found nothing further to claim."""


@dataclass(frozen=True)
class Written:
    """What an engine wrote for one document."""

    n_tokens: int
    truncated: bool


class EngineLM(TemplateLM):
    """An engine behind lm-eval's interface.

    Choices of one question share one request, and identical requests are asked once. Tokenization follows
    `TemplateLM._encode_pair`, which lm-eval's own models use.
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
    ) -> None:
        """With `leads` false, it raises `Helped` once there is nothing left to claim."""
        super().__init__()
        self.tokenizer = tokenization.tokenizer
        self._engine = engine
        self._tokenization = tokenization
        self._journal = journal
        self._progress = progress
        self._claims = claims
        self._leads = leads
        self.written: dict[tuple[str, int], Written] = {}

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands in for an empty context."""
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
        """Log-probability of each continuation, and whether greedy decoding would write it."""
        asked: list[ScoreRequest] = []
        places: list[tuple[int, int]] = []
        for begin in range(0, len(requests), TEXTS_AT_ONCE):
            self._score_requests(requests[begin : begin + TEXTS_AT_ONCE], asked, places)
        answers = cast("list[ScoreResult]", self._answer(asked))
        return [
            (answers[request].logprobs[choice], answers[request].is_greedy[choice])
            for request, choice in places
        ]

    def _score_requests(
        self, requests: Sequence[Instance], asked: list[ScoreRequest], places: list[tuple[int, int]]
    ) -> None:
        """Appends the engine's requests, and where in them each of lm-eval's has its answer."""
        self._learn_pairs([request.args for request in requests])
        for _, group in groupby(requests, key=lambda r: (r.task_name, r.doc_id)):
            pairs = [self._encode_request(request) for request in group]
            for context, same in groupby(pairs, key=lambda pair: pair[0]):
                continuations = tuple(continuation for _, continuation in same)
                places += [(len(asked), rank) for rank in range(len(continuations))]
                asked.append(ScoreRequest(context=context, continuations=continuations))

    def _learn_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        # `_encode_pair` moves spaces from the end of the context to the continuation, which leaves the whole as it is.
        texts = {
            text for context, continuation in pairs for text in (context.rstrip(), context + continuation)
        }
        self._tokenization.learn(text for text in texts if text)

    def _encode_request(self, request: Instance) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a request's context and continuation; EvaluationError where the continuation has none.

        It would be certain (log-probability 0) and win every question. lm-eval's `hf` model stops with a failed assertion
        there, its `vllm` model does give 0.
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
                f"own, {reason}: it has no log-probability to compare; change the task's choices or its target_delimiter, or "
                "leave the task out."
            )
        return context, continuation

    def _encode(self, context: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if context == "":
            tokens = self.tok_encode(continuation, add_special_tokens=False)
            if tokens and tokens[0] == self.prefix_token_id:
                return tuple(tokens[:1]), tuple(tokens[1:])
            return (self.prefix_token_id,), tuple(tokens)
        before, after = self._encode_pair(context, continuation)
        if not before:  # nothing but spaces
            return (self.prefix_token_id,), tuple(after)
        return tuple(before), tuple(after)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The greedy continuation of each prompt."""
        self._tokenization.learn(request.args[0] for request in requests)
        asked = [self._generate_request(*request.args) for request in requests]
        answers = cast("list[GenerateResult]", self._answer(asked))
        for request, answer in zip(requests, answers, strict=True):
            self.written[request.task_name, request.doc_id] = Written(
                n_tokens=answer.n_tokens, truncated=answer.finish_reason == "length"
            )
        return [answer.text for answer in answers]

    def _generate_request(self, prompt: str, gen_kwargs: dict[str, Any]) -> GenerateRequest:
        kwargs = normalize_gen_kwargs(gen_kwargs, DEFAULT_MAX_NEW_TOKENS)
        if kwargs["do_sample"]:
            raise EvaluationError(
                "A task asks for sampling; engines decode greedily: set do_sample to false in the task."
            )
        tokens = self.tok_encode(prompt) or [self.prefix_token_id]
        return GenerateRequest(
            prompt=tuple(tokens),
            max_new_tokens=int(kwargs["max_gen_toks"]),
            stop=tuple(s for s in kwargs["until"] if s),
        )

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not offered: no leaderboard asks for perplexity."""
        raise EvaluationError(
            "A task asks for perplexity (loglikelihood_rolling); choose a task with choices or answers."
        )

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: object) -> list[tuple[float, bool]]:
        raise NotImplementedError("`loglikelihood` asks the engine itself.")

    def _answer(self, requests: Sequence[Request]) -> list[Result]:
        """Answers to all requests: from the journal, else from the engine, and then into the journal at once."""
        digests = [request_digest(request) for request in requests]
        times = Counter(digests)
        unique = dict(
            sorted(dict(zip(digests, requests, strict=True)).items(), key=lambda item: _place(item[1]))
        )
        open_ = {digest: times[digest] for digest in unique if self._journal.get(digest) is None}
        self._progress.plan(
            len(requests), sum(_cost(unique[d]) for d in open_), len(requests) - sum(open_.values())
        )
        stretches = {digest: f"{place // STRETCH}" for place, digest in enumerate(unique)}

        def mine(digest: str) -> bool:
            return self._claims.take(stretches[digest])

        if not self._leads:
            while self._claims.limit(stretches[digest] for digest in open_):
                self._work(unique, open_, mine)
            self._journal.sync()
            raise Helped
        self._work(unique, open_, mine)
        self._await_helpers(unique, open_, mine)
        self._work(unique, open_, lambda digest: True)
        self._journal.sync()
        self._progress.show()
        return [self._known(digest) for digest in digests]

    def _work(
        self, unique: Mapping[str, Request], open_: dict[str, int], mine: Callable[[str], bool]
    ) -> None:
        """Ask the engine for what is open and this process's to do; what comes back, here or from others, is open no more."""
        asked = list(open_)
        looked = time.monotonic()
        for index, result in self._ask(
            [unique[digest] for digest in asked], lambda i: asked[i] in open_ and mine(asked[i])
        ):
            self._journal.put(asked[index], result)
            if asked[index] in open_:
                written = result.n_tokens if isinstance(result, GenerateResult) else 0
                request = unique[asked[index]]
                self._progress.answered(open_.pop(asked[index]), _n_tokens(request) + written, _cost(request))
            if time.monotonic() - looked > LOOK_EVERY_S:
                looked = time.monotonic()
                self._take_in(unique, open_)

    def _take_in(self, unique: Mapping[str, Request], open_: dict[str, int]) -> int:
        """Look what others have answered; how many that were."""
        if not self._journal.refresh():
            return 0
        found = [digest for digest in open_ if self._journal.get(digest) is not None]
        for digest in found:
            self._progress.taken_in(open_.pop(digest), _cost(unique[digest]))
        return len(found)

    def _await_helpers(
        self, unique: Mapping[str, Request], open_: dict[str, int], mine: Callable[[str], bool]
    ) -> None:
        """Wait for what others have claimed, as long as their answers keep coming."""
        last = time.monotonic()
        while not all(map(mine, open_)) and time.monotonic() - last < PATIENCE_S:
            if self._take_in(unique, open_):
                last = time.monotonic()
            else:
                time.sleep(LOOK_EVERY_S / 4)

    def _ask(self, requests: Sequence[Request], wanted: Wanted) -> Iterator[tuple[int, Result]]:
        if not requests:
            return
        if isinstance(requests[0], ScoreRequest):
            yield from self._engine.score(cast("Sequence[ScoreRequest]", requests), wanted)
        else:
            yield from self._engine.generate(cast("Sequence[GenerateRequest]", requests), wanted)

    def _known(self, digest: str) -> Result:
        result = self._journal.get(digest)
        if result is None:
            raise EngineError(
                f"The {self._engine.spec.kind} engine left a request without an answer; run the same command again to resume."
            )
        return result


def _place(request: Request) -> tuple[int, tuple[int, ...]]:
    """The order in which engines begin requests."""
    if isinstance(request, ScoreRequest):
        return 0, request.context
    return -len(request.prompt), request.prompt


def _n_tokens(request: Request) -> int:
    if isinstance(request, ScoreRequest):
        return len(request.context) + sum(map(len, request.continuations))
    return len(request.prompt)


def _cost(request: Request) -> int:
    """Rough work in tokens: a written token takes a pass of its own, read ones share passes."""
    if isinstance(request, ScoreRequest):
        return _n_tokens(request)
    return len(request.prompt) + 2 * request.max_new_tokens
