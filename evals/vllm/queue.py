"""Requests through vLLM's scheduler: a bounded number in flight, results as soon as they are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from evals.errors import EngineError

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer


@dataclass(frozen=True)
class Prompt:
    """One sequence for the scheduler; `key` comes back with the answer."""

    key: tuple[int, ...]
    tokens: tuple[int, ...]
    params: SamplingParams

    def watch(self) -> IncrementalDetokenizer | None:
        """What is shown every new token instead of vLLM's own detokenizer, and can end the sequence; null leaves vLLM's."""
        return None


class RequestQueue:
    """Feeds the scheduler and hands out what it finishes."""

    def __init__(self, llm: LLM, batch: int) -> None:
        self._engine = llm.llm_engine
        self._batch = batch
        self._ids = count()
        self.scores_named_rows = _scores_named_rows(llm)

    def run(
        self, prompts: Iterable[Prompt], follow_ups: deque[Prompt] | None = None, ahead: int | None = None
    ) -> Iterator[tuple[Prompt, RequestOutput]]:
        """Answers in the order in which they finish. Closing the iterator aborts what is still in flight.

        Prompts that the caller adds to `follow_ups` while it reads are started before the next of `prompts`, while the
        prefix cache still holds what they share with an answered one. Besides a batch that runs, `ahead` prompts wait in
        the scheduler, one batch by default. What waits there is lost to engines that share the job.
        """
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        source = iter(prompts)
        window = self._batch + (self._batch if ahead is None else ahead)
        first = deque() if follow_ups is None else follow_ups
        flying: dict[str, Prompt] = {}
        try:
            while True:
                while len(flying) < window:
                    prompt = first.popleft() if first else next(source, None)
                    if prompt is None:
                        break
                    prompt.params.output_kind = RequestOutputKind.FINAL_ONLY
                    name = str(next(self._ids))
                    flying[name] = prompt
                    inner = self._engine.add_request(name, tokens_input(list(prompt.tokens)), prompt.params)
                    watch = prompt.watch()
                    if watch is not None:
                        self._engine.output_processor.request_states[inner].detokenizer = watch
                if not flying:
                    return
                for output in self._engine.step():
                    if output.finished:
                        yield flying.pop(output.request_id), output
        finally:
            if flying:
                self._engine.abort_request(list(flying))
                while self._engine.has_unfinished_requests():
                    self._engine.step()

    @property
    def idle(self) -> bool:
        """Whether no request is in flight."""
        return not self._engine.has_unfinished_requests()

    def require_idle(self, purpose: str) -> None:
        """Raise EngineError while requests are in flight."""
        if not self.idle:
            raise EngineError(f"Requests are in flight: read or close their iterator before you {purpose}.")


def _scores_named_rows(llm: LLM) -> bool:
    """Whether requests can name the tokens and the first row of the prompt log-probabilities that they want.

    Only Model Runner V2 can, and not where layers that share a KV cache skip prompt tokens (kv_sharing_fast_prefill).
    """
    from vllm import SamplingParams

    config = llm.llm_engine.vllm_config
    return (
        hasattr(SamplingParams, "prompt_logprob_token_ids")
        and hasattr(SamplingParams, "prompt_logprob_start")
        and bool(getattr(config, "use_v2_model_runner", False))
        and not getattr(config.cache_config, "kv_sharing_fast_prefill", False)
    )
