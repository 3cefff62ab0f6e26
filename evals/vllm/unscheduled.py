"""Scoring and generation outside vLLM's scheduler, if the engine's workers support it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.checkpoint_settings import GenerationSettings
from evals.text_stop import end_text_of, end_tokens
from evals.vllm.batch import DecodeStep, Step, StepResult
from evals.vllm.limits import Limits
from evals.vllm.path_generation import Passes, PathGenerator, Text
from evals.vllm.schedule import Path, Stride
from evals.vllm.tree_scoring import TreeScorer

if TYPE_CHECKING:
    from vllm import LLM


class UnscheduledPasses:
    """Scoring and many-path generation with the engine's layers and KV cache, while the scheduler is idle."""

    def __init__(self, llm: LLM, max_length: int, text: Text, limits: Limits) -> None:
        self.limits = limits

        def run(step: Step, paths: list[Path], stride: Stride) -> list[StepResult]:
            answers: list[list[StepResult]] = llm.collective_rpc("run_step", args=(step, paths, stride))
            return answers[0]

        def decode(step: DecodeStep, paths: list[Path], stride: Stride) -> list[int]:
            answers: list[list[int]] = llm.collective_rpc("decode_step", args=(step, paths, stride))
            return answers[0]

        def mend() -> None:
            llm.collective_rpc("mend_cache")

        self.ready = False
        self.scorer = TreeScorer(run, mend, limits, max_length)
        self.generator = PathGenerator(Passes(run, decode, mend), limits, max_length, text)

    def start(self, path: Path) -> None:
        """Score on this layer path from now on."""
        self.scorer.start(path)
        self.ready = True

    def stop(self) -> None:
        """Give up the KV cache."""
        self.scorer.stop()
        self.ready = False


def open_unscheduled(llm: LLM, max_length: int, text: Text) -> UnscheduledPasses | None:
    """Prepare passes outside the scheduler; None if a worker does not support them."""
    limits: list[Limits | None] = llm.collective_rpc("start_steps")
    supported = [limit for limit in limits if limit is not None]
    return (
        UnscheduledPasses(llm, max_length, text, Limits.least(supported))
        if len(supported) == len(limits)
        else None
    )


def text_of(llm: LLM, settings: GenerationSettings) -> Text:
    """The engine's tokenizer, end tokens, and the checkpoint's repetition penalty."""
    tokenizer = llm.get_tokenizer()
    config = llm.model_config.try_get_generation_config() or {}
    ends = end_tokens(tokenizer, config.get("eos_token_id"))
    return Text(tokenizer, ends, end_text_of(tokenizer), settings.repetition_penalty)
