"""Scores with rotary embeddings whose factors depend on the length of the sequence (longrope, dynamic NTK)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from evals.engine import ScoreResult
from evals.transformers.scoring import PlainScorer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Scorer(Protocol):
    """Scores the continuations of one context."""

    def forget(self) -> None:
        """Drop what is kept from question to question."""

    def score(self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
        """Sums of log-probabilities, and whether greedy decoding would write them."""


class LengthAwareScorer:
    """Shares passes as `inner` does up to `limit` tokens, where all sequences have the same rotary factors.

    What is longer is scored sequence by sequence, without a cache and without padding, as by lm-eval's `hf` model with a
    batch size of one: transformers chooses the factors by the longest position of a call, and keys in a cache keep theirs.
    """

    def __init__(self, inner: Scorer, model: PreTrainedModel, device: torch.device, limit: int) -> None:
        self._inner = inner
        self._model = model
        self._plain = PlainScorer(model, device)
        self._limit = limit

    def forget(self) -> None:
        """Drop what is kept from question to question."""
        self._inner.forget()

    def score(self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
        """Sums of log-probabilities (float32 log-softmax) and whether greedy decoding would write them."""
        # The last token of a continuation is looked up, not run.
        if len(context) + max(map(len, continuations)) - 1 <= self._limit:
            return self._inner.score(context, continuations)
        parts = []
        for continuation in continuations:
            restore_rope(self._model)
            parts.append(self._plain.score(context, [continuation]))
        restore_rope(self._model)
        return ScoreResult(
            logprobs=tuple(part.logprobs[0] for part in parts),
            is_greedy=tuple(part.is_greedy[0] for part in parts),
        )


def restore_rope(model: PreTrainedModel) -> None:
    """Give dynamic rotary embeddings the factors of short sequences again, so that a result does not depend on the one before."""
    for module in model.modules():
        if hasattr(module, "original_max_seq_len") and hasattr(module, "original_inv_freq"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.register_buffer(
                "inv_freq", module.original_inv_freq.to(module.inv_freq.device), persistent=False
            )
