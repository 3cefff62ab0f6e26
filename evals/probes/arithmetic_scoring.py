"""Partial credit for whole numbers: the published formula, and one that guessing gains little from.

The published formula pads the shorter number with zeros and takes the relative difference, so that the right
length alone is worth half the credit, and it takes the best number of a reply, so that repeating the question
pays. The corrected credit counts the right significant digits of one number: the last one of the first
line that has any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_OPEN, _CLOSE = "<think>", "</think>"
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?!\d)|-?\d+")
MAX_DIGITS = 1000
"""Longest run of digits that is read as a number; no answer of a probe has more than 30."""


def without_thinking(text: str) -> str:
    """The text without closed think blocks."""
    kept, at = [], 0
    while (start := text.find(_OPEN, at)) >= 0 and (end := text.find(_CLOSE, start + len(_OPEN))) >= 0:
        kept.append(text[at:start])
        at = end + len(_CLOSE)
    return "".join([*kept, text[at:]])


def published_credit(actual: int, guess: int) -> float:
    """The published credit of one number: relative difference after zero padding, times the share of the length."""
    a, g = str(abs(actual)), str(abs(guess))
    longest, shortest = max(len(a), len(g)), min(len(a), len(g))
    left, right = int(a.ljust(longest, "0")), int(g.ljust(longest, "0"))
    top = max(left, right)
    if top == 0:
        return 0.0
    credit = (1 - abs(left - right) / top) * (1 - (longest - shortest) / longest)
    return min(1.0, max(0.0, credit))


def published_candidates(text: str) -> list[int]:
    """Every run of digits of a reply, as the published extraction takes them (a sign is lost)."""
    return [int(run[:MAX_DIGITS]) for run in _DIGITS.findall(without_thinking(text))]


def published_reply(actual: int, text: str) -> tuple[int | None, float]:
    """The number of a reply that gets the most published credit, and that credit."""
    scored = [(published_credit(actual, guess), guess) for guess in published_candidates(text)]
    if not scored:
        return None, 0.0
    credit, guess = max(scored, key=lambda pair: pair[0])
    return guess, credit


def corrected_answer(text: str) -> int | None:
    """The one number that a reply gives: the last of its first line that has any, sign and thousands commas read."""
    for line in without_thinking(text).splitlines():
        found = _NUMBER.findall(line)
        if found:
            return int(found[-1].replace(",", "")[:MAX_DIGITS])
    return None


def corrected_credit(actual: int, guess: int | None) -> float:
    """Share of the answer's significant digits that are right: -log10 of the relative error, over the length."""
    if guess is None:
        return 0.0
    if guess == actual:
        return 1.0
    if abs(guess) > 2 * abs(actual):
        return 0.0  # and no quotient that is too large for a float
    error = abs(actual - guess) / max(abs(actual), 1)
    length = len(str(abs(actual)))
    return 0.0 if error >= 1 else min(1.0, -math.log10(error) / length)


def shares(logprobs: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Probabilities of some answers among themselves, and the probability of all of them together."""
    top = max(logprobs)
    if top == -math.inf:
        return tuple(1 / len(logprobs) for _ in logprobs), 0.0
    weights = [math.exp(value - top) for value in logprobs]
    total = math.fsum(weights)
    return tuple(w / total for w in weights), min(1.0, total * math.exp(min(top, 0.0)))


def expected_published(actual: int, digits: Sequence[Sequence[float]]) -> float:
    """Expected published credit of a number of the right length that is written digit by digit.

    `digits[k][d]` is the probability of digit d after the k right digits, for all digits or the leading ones. A number is
    right up to its first wrong digit; what comes behind that is not known and counted as fives, the middle of the scale.
    """
    text = str(actual)
    credit, so_far = 0.0, 1.0
    for k, probabilities in enumerate(digits):
        for d, p in enumerate(probabilities):
            if str(d) != text[k]:
                guess = int(text[:k] + str(d) + "5" * (len(text) - k - 1))
                credit += so_far * p * published_credit(actual, guess)
        so_far *= probabilities[int(text[k])]
    rest = text[: len(digits)].ljust(len(text), "5")
    return credit + so_far * published_credit(actual, int(rest))


def expected_corrected(actual: int, digits: Sequence[Sequence[float]]) -> float:
    """Mean probability of the right next digit, given the right ones before it; 0.1 for guessing."""
    return math.fsum(p[int(d)] for d, p in zip(str(actual), digits, strict=False)) / len(digits)
