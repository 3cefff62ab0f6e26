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
        self._window = 2 * batch
        self._ids = count()

    def run(self, prompts: Iterable[Prompt]) -> Iterator[tuple[Prompt, RequestOutput]]:
        """Answers in the order in which they finish. Closing the iterator aborts what is still in flight."""
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        source = iter(prompts)
        flying: dict[str, Prompt] = {}
        try:
            while True:
                while len(flying) < self._window and (prompt := next(source, None)) is not None:
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

    @property
    def idle(self) -> bool:
        """Whether no request is in flight."""
        return not self._engine.has_unfinished_requests()

    def require_idle(self, purpose: str) -> None:
        """Raise EngineError while requests are in flight."""
        if not self.idle:
            raise EngineError(f"Requests are in flight: read or close their iterator before you {purpose}.")
