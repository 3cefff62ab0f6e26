"""Requests through vLLM's scheduler: a bounded number in flight, results as soon as they are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from evals.errors import EngineError

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams


@dataclass(frozen=True)
class Prompt:
    """One sequence for the scheduler; `key` comes back with the answer."""

    key: tuple[int, ...]
    tokens: tuple[int, ...]
    params: SamplingParams


class RequestQueue:
    """Feeds the scheduler and hands out what it finishes."""

    def __init__(self, llm: LLM, batch: int) -> None:
        self._engine = llm.llm_engine
        self._batch = batch
        self._ids = count()

    def run(
        self, prompts: Iterable[Prompt], ahead: int | None = None
    ) -> Iterator[tuple[Prompt, RequestOutput]]:
        """Answers in the order in which they finish. Closing the iterator aborts what is still in flight.

        Besides a batch that runs, `ahead` prompts wait in the scheduler, one batch by default. What waits there is lost to
        engines that share the job.
        """
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        source = iter(prompts)
        window = self._batch + (self._batch if ahead is None else ahead)
        flying: dict[str, Prompt] = {}
        try:
            while True:
                while len(flying) < window and (prompt := next(source, None)) is not None:
                    prompt.params.output_kind = RequestOutputKind.FINAL_ONLY
                    name = str(next(self._ids))
                    flying[name] = prompt
                    self._engine.add_request(name, tokens_input(list(prompt.tokens)), prompt.params)
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

    def require_idle(self, purpose: str) -> None:
        """Raise EngineError while requests are in flight."""
        if self._engine.has_unfinished_requests():
            raise EngineError(f"Requests are in flight: read or close their iterator before you {purpose}.")
