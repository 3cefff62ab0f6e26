"""Greedy generation through vLLM's scheduler, with the texts and stop strings of lm-eval's `hf` model.

vLLM's detokenizer continues the prompt: with a SentencePiece tokenizer its text begins with the space before the first word, which
`hf` does not have because it decodes the new tokens alone. So vLLM returns tokens, which are decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.engine import GenerateRequest, GenerateResult, RequestFilter, Sampling, accept_all
from evals.errors import EngineError
from evals.text_stop import StopStrings, final_text
from evals.vllm.path_generation import Text
from evals.vllm.queue import Prompt, RequestQueue

if TYPE_CHECKING:
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

AHEAD = 16
"""Number of prompts waiting in the scheduler. Few sequences end in one step, and engines that share the job cannot run the waiting
ones."""


def generations(
    queue: RequestQueue,
    requests: Sequence[GenerateRequest],
    max_length: int,
    text: Text,
    accepts: RequestFilter = accept_all,
) -> Iterator[tuple[int, GenerateResult]]:
    """Results of the requests as they finish; the longest prompts start first."""
    for prompt, output in queue.run(_prompts(requests, max_length, text, accepts), ahead=AHEAD):
        request = requests[prompt.key[0]]
        answer = output.outputs[0]
        yield (
            prompt.key[0],
            GenerateResult(
                text=final_text(text.tokenizer, answer.token_ids, request.stop, text.end_text),
                n_tokens=len(answer.token_ids),
                finish_reason="stop" if answer.finish_reason == "stop" else "length",
            ),
        )


@dataclass(frozen=True)
class _Watched(Prompt):
    """A prompt whose text ends at stop strings."""

    stop: tuple[str, ...]
    text: Text

    def watch(self) -> IncrementalDetokenizer:
        from vllm.v1.engine.detokenizer import IncrementalDetokenizer

        watched = StopStrings(self.text.tokenizer, self.stop)

        class _Watch(IncrementalDetokenizer):
            """Collects the new tokens and ends the sequence when their text contains a stop string."""

            def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
                for token in new_token_ids:
                    self.token_ids.append(token)
                    if watched.reached(self.token_ids):
                        return "a stop string"
                return None

        return _Watch()


def _sampling(sampling: Sampling | None) -> dict[str, Any]:
    """vLLM's names of how tokens are drawn."""
    if sampling is None:
        return {"temperature": 0}
    return sampling.model_dump()


def _prompts(
    requests: Sequence[GenerateRequest], max_length: int, text: Text, accepts: RequestFilter
) -> Iterator[Prompt]:
    from vllm import SamplingParams

    for index in sorted(range(len(requests)), key=lambda i: -len(requests[i].prompt)):
        request = requests[index]
        room = max_length - request.max_new_tokens
        if room < 1:
            raise EngineError(
                f"{request.max_new_tokens} new tokens leave no room for a prompt in {max_length} tokens: "
                "lower the task's limit or raise max_length."
            )
        if not accepts(index):
            continue
        params = SamplingParams(
            **_sampling(request.sampling),
            max_tokens=request.max_new_tokens,
            repetition_penalty=text.repetition_penalty,
            detokenize=False,
        )
        yield _Watched((index,), request.prompt[-room:], params, request.stop, text)
