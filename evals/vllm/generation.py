"""Greedy generation through vLLM's scheduler, with the stop strings and truncation of lm-eval's vllm model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evals.engine import GenerateRequest, GenerateResult, Wanted, all_wanted
from evals.errors import EngineError
from evals.text_stop import cut_at_stops, with_end_token
from evals.vllm.queue import Prompt, RequestQueue

AHEAD = 16
"""Prompts that wait in the scheduler besides those that run: few sequences end in one step, and another engine that shares the
job cannot take what waits here."""


def generations(
    queue: RequestQueue,
    requests: Sequence[GenerateRequest],
    max_length: int,
    end_text: str,
    wanted: Wanted = all_wanted,
) -> Iterator[tuple[int, GenerateResult]]:
    """Results of the requests as they finish; the longest prompts are started first."""
    for prompt, output in queue.run(_prompts(requests, max_length, end_text, wanted), ahead=AHEAD):
        request = requests[prompt.key[0]]
        answer = output.outputs[0]
        yield (
            prompt.key[0],
            GenerateResult(
                text=cut_at_stops(answer.text, with_end_token(request.stop, end_text)),
                n_tokens=len(answer.token_ids),
                finish_reason="stop" if answer.finish_reason == "stop" else "length",
            ),
        )


def _prompts(
    requests: Sequence[GenerateRequest], max_length: int, end_text: str, wanted: Wanted
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
        if not wanted(index):
            continue
        params = SamplingParams(
            temperature=0,
            max_tokens=request.max_new_tokens,
            stop=list(with_end_token(request.stop, end_text)),
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
        )
        yield Prompt((index,), request.prompt[-room:], params)
