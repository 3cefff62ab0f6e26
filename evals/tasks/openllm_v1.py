"""Open LLM Leaderboard v1: documents and few-shot examples in the order of its harness of June 2023.

That harness shuffled each task's documents with a stream of `random` seeded with 42 and drew the examples of every
question from the same stream, one question after another. lm-eval 0.4.13 keeps the documents in their order and draws
from a stream of its own, so that each question would see other examples than on the board.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from lm_eval.api.samplers import ContextSampler

SEED = 42


class StreamSampler(ContextSampler):
    """Draws from a stream that was used before, whatever seed it is told later."""

    def __init__(self, documents: Sequence[dict[str, Any]], stream: random.Random) -> None:
        super().__init__(documents)
        self.rnd = stream

    def set_rnd(self, rnd: int | None) -> StreamSampler:
        """Keeps its stream."""
        return self


def prepare(task: Any) -> None:
    """Puts a task's documents into the board's order and lets it draw examples as the board did.

    Tasks whose examples are fixed (MMLU: the first of its dev split) keep them.
    """
    stream = random.Random(SEED)
    split = task.config.test_split or task.config.validation_split
    order = list(range(len(task.dataset[split])))
    stream.shuffle(order)
    task.dataset[split] = task.dataset[split].select(order)
    if type(getattr(task, "sampler", None)) is ContextSampler:
        task.sampler = StreamSampler(task.sampler.df, stream)
