"""Draws tokens at random, each row by its own seed, so that a text does not depend on the other rows of its batch.

Adding Gumbel noise to log-probabilities and taking the largest draws from their distribution (the Gumbel-max trick), so that the
rest of generation stays greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.engine import Sampling

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RowSampler:
    """How one row draws its tokens, with the state of its random numbers."""

    sampling: Sampling
    generator: torch.Generator

    @classmethod
    def of(cls, sampling: Sampling | None) -> RowSampler | None:
        """A sampler at its first token; None for greedy."""
        import torch

        return None if sampling is None else cls(sampling, torch.Generator().manual_seed(sampling.seed))

    def perturbed(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [vocabulary] of the next token whose largest is a draw."""
        import torch

        logits = scores.float() / self.sampling.temperature
        if self.sampling.top_k:
            smallest = logits.topk(min(self.sampling.top_k, logits.shape[-1])).values[-1]
            logits = logits.masked_fill(logits < smallest, -torch.inf)
        if self.sampling.top_p < 1.0:
            ordered, places = logits.softmax(dim=-1).sort(descending=True)
            # The likeliest tokens whose probabilities before them sum to less than top_p; at least one.
            dropped = places[ordered.cumsum(dim=-1) - ordered >= self.sampling.top_p]
            logits = logits.index_fill(0, dropped, -torch.inf)
        uniform = torch.rand(logits.shape[-1], generator=self.generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp_min(1e-300)))
        return logits + noise.to(logits.device, logits.dtype)


class RowSampling:
    """A logits processor that draws the rows with a sampler; the others stay greedy."""

    def __init__(self, samplers: Sequence[RowSampler | None]) -> None:
        self._samplers = samplers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary]."""
        drawn = scores.clone()
        for row, sampler in enumerate(self._samplers):
            if sampler is not None:
                drawn[row] = sampler.perturbed(scores[row]).to(scores.dtype)
        return drawn
