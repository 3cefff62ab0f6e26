"""Runs requests through vLLM's scheduler with a bounded number in flight."""

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
    """One sequence for the scheduler; `key` identifies the answer."""

    key: tuple[int, ...]
    tokens: tuple[int, ...]
    params: SamplingParams

    def watch(self) -> IncrementalDetokenizer | None:
        """A replacement of vLLM's detokenizer, which can end the sequence; None keeps vLLM's."""
        return None


class RequestQueue:
    """Feeds the scheduler and yields finished requests."""

    def __init__(self, llm: LLM, batch: int) -> None:
        self._engine = llm.llm_engine
        self._batch = batch
        self._ids = count()
        self.scores_named_rows = _scores_named_rows(llm)

    def run(
        self, prompts: Iterable[Prompt], follow_ups: deque[Prompt] | None = None, ahead: int | None = None
    ) -> Iterator[tuple[Prompt, RequestOutput]]:
        """Answers in the order in which they finish. Closing the iterator aborts requests in flight.

        Prompts that the caller adds to `follow_ups` start before the next of `prompts`, while the prefix cache still holds
        their shared prefix. Besides the running batch, `ahead` prompts wait in the scheduler, one batch by default; engines
        that share the job cannot run these.
        """
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        source = iter(prompts)
        window = self._batch + (self._batch if ahead is None else ahead)
        follow_up_queue = deque() if follow_ups is None else follow_ups
        in_flight: dict[str, Prompt] = {}
        try:
            while True:
                while len(in_flight) < window:
                    prompt = follow_up_queue.popleft() if follow_up_queue else next(source, None)
                    if prompt is None:
                        break
                    prompt.params.output_kind = RequestOutputKind.FINAL_ONLY
                    name = str(next(self._ids))
                    in_flight[name] = prompt
                    state = self._engine.add_request(name, tokens_input(list(prompt.tokens)), prompt.params)
                    watch = prompt.watch()
                    if watch is not None:
                        self._engine.output_processor.request_states[state].detokenizer = watch
                if not in_flight:
                    return
                for output in self._engine.step():
                    if output.finished:
                        yield in_flight.pop(output.request_id), output
        finally:
            if in_flight:
                self._engine.abort_request(list(in_flight))
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
    """Whether requests can select the tokens and the first row of prompt log-probabilities.

    Only Model Runner V2 supports it, and not if layers that share a KV cache skip prompt tokens (kv_sharing_fast_prefill).
    """
    from vllm import SamplingParams

    config = llm.llm_engine.vllm_config
    return (
        hasattr(SamplingParams, "prompt_logprob_token_ids")
        and hasattr(SamplingParams, "prompt_logprob_start")
        and bool(getattr(config, "use_v2_model_runner", False))
        and not getattr(config.cache_config, "kv_sharing_fast_prefill", False)
    )
