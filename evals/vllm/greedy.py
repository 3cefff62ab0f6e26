"""Decides from the log-probabilities of some tokens whether a continuation is the greedy one.

A token with more than half of the probability is the likeliest of its row; a token with a lower log-probability than another
choice's is not. Undecided rows need their likeliest token, which the caller requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

MARGIN = 0.02
"""Smaller differences of log-probabilities do not decide: they may come from passes with different rounding."""


class GreedyRow(NamedTuple):
    """The prediction after a context and the first tokens of a continuation."""

    context: tuple[int, ...]
    continued: tuple[int, ...]


class RowScores:
    """Known log-probabilities and likeliest tokens of one question's rows."""

    def __init__(self) -> None:
        self._logprobs: dict[GreedyRow, dict[int, float]] = {}
        self._likeliest: dict[GreedyRow, int] = {}

    def add_logprobs(
        self, context: tuple[int, ...], continuation: tuple[int, ...], logprobs: Sequence[float]
    ) -> None:
        """Add the log-probability of every token of a continuation."""
        for position, (token, logprob) in enumerate(zip(continuation, logprobs, strict=True)):
            self._logprobs.setdefault(GreedyRow(context, continuation[:position]), {})[token] = logprob

    def add_likeliest(self, row: GreedyRow, token: int) -> None:
        """Add the likeliest token of a row."""
        self._likeliest[row] = token

    def is_greedy(self, context: tuple[int, ...], continuation: tuple[int, ...]) -> bool | GreedyRow:
        """Whether every token is the likeliest of its row; if that is undecided, the first undecided row."""
        undecided = None
        for position, token in enumerate(continuation):
            row = GreedyRow(context, continuation[:position])
            likeliest = self._is_likeliest(row, token)
            if likeliest is False:
                return False
            if likeliest is None and undecided is None:
                undecided = row
        return True if undecided is None else undecided

    def _is_likeliest(self, row: GreedyRow, token: int) -> bool | None:
        if row in self._likeliest:
            return self._likeliest[row] == token
        logprobs = self._logprobs[row]
        if logprobs[token] > math.log(0.5) + MARGIN:
            return True
        if any(logprob > logprobs[token] + MARGIN for logprob in logprobs.values()):
            return False
        return None
