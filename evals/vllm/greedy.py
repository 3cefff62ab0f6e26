"""Whether a continuation is what greedy decoding gives, from the log-probabilities of some tokens.

A token with more than half of the probability is the likeliest of its row, and one that another choice's token beats is not.
What is left open is decided by the row's likeliest token, which its owner has to ask for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

MARGIN = 0.02
"""Log-probabilities nearer than this decide nothing: they come from different passes, whose roundings differ."""


class GreedyRow(NamedTuple):
    """A place in a sequence: what comes next after the context and the first tokens of a continuation."""

    context: tuple[int, ...]
    continued: tuple[int, ...]


class RowScores:
    """What is known of the rows of one question."""

    def __init__(self) -> None:
        self._logprobs: dict[GreedyRow, dict[int, float]] = {}
        self._likeliest: dict[GreedyRow, int] = {}

    def take(
        self, context: tuple[int, ...], continuation: tuple[int, ...], logprobs: Sequence[float]
    ) -> None:
        """Add the log-probability of every token of a continuation."""
        for position, (token, logprob) in enumerate(zip(continuation, logprobs, strict=True)):
            self._logprobs.setdefault(GreedyRow(context, continuation[:position]), {})[token] = logprob

    def take_likeliest(self, row: GreedyRow, token: int) -> None:
        """Add the likeliest token of a row."""
        self._likeliest[row] = token

    def is_greedy(self, context: tuple[int, ...], continuation: tuple[int, ...]) -> bool | GreedyRow:
        """Whether every token is the likeliest of its row; where that is open, the first row that is."""
        open_row = None
        for position, token in enumerate(continuation):
            row = GreedyRow(context, continuation[:position])
            likeliest = self._is_likeliest(row, token)
            if likeliest is False:
                return False
            if likeliest is None and open_row is None:
                open_row = row
        return True if open_row is None else open_row

    def _is_likeliest(self, row: GreedyRow, token: int) -> bool | None:
        if row in self._likeliest:
            return self._likeliest[row] == token
        known = self._logprobs[row]
        if known[token] > math.log(0.5) + MARGIN:
            return True
        if any(other > known[token] + MARGIN for other in known.values()):
            return False
        return None
