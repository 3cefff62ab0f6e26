"""Scores with rotary embeddings whose factors depend on the sequence length (longrope, dynamic NTK)."""

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
        """Drop the state that is shared between questions."""

    def score(self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
        """Sums of log-probabilities, and whether greedy decoding would generate the continuations."""


class LengthAwareScorer:
    """Uses `inner` for sequences of up to `limit` tokens, which have the same rotary factors.

    Longer ones are scored one at a time, without cache and padding, as by lm-eval's `hf` model with a batch size of one,
    because transformers chooses the factors by the longest position of a call, and cached keys keep theirs.
    """

    def __init__(self, inner: Scorer, model: PreTrainedModel, device: torch.device, limit: int) -> None:
        self._inner = inner
        self._model = model
        self._plain = PlainScorer(model, device)
        self._limit = limit

    def forget(self) -> None:
        """Drop the state that is shared between questions."""
        self._inner.forget()

    def score(self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]) -> ScoreResult:
        """Sums of log-probabilities (float32 log-softmax) and whether greedy decoding would generate the continuations."""
        # The last token of a continuation is not an input of the model.
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
    """Restore the factors for short sequences in dynamic rotary embeddings, so that results do not depend on earlier calls."""
    for module in model.modules():
        if hasattr(module, "original_max_seq_len") and hasattr(module, "original_inv_freq"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.register_buffer(
                "inv_freq", module.original_inv_freq.to(module.inv_freq.device), persistent=False
            )
