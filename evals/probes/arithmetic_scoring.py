"""Partial credit for whole numbers: the published formula, and a corrected one that rewards guessing less.

The published formula pads the shorter number with zeros and takes the relative difference, so that the correct
length alone gets half the credit; and it takes the best number of a reply, so that repeating the question gets
credit. The corrected credit counts the correct significant digits of one number: the last one of the first line
that contains a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_OPEN, _CLOSE = "<think>", "</think>"
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?!\d)|-?\d+")
MAX_DIGITS = 1000
"""Maximum length of a number in a reply; no answer of a probe has more than 30 digits."""


def without_thinking(text: str) -> str:
    """The text without complete think blocks."""
    parts, position = [], 0
    while (start := text.find(_OPEN, position)) >= 0 and (end := text.find(_CLOSE, start + len(_OPEN))) >= 0:
        parts.append(text[position:start])
        position = end + len(_CLOSE)
    return "".join([*parts, text[position:]])


def published_credit(actual: int, guess: int) -> float:
    """The published credit of one number: relative difference after zero padding, times the share of the length."""
    a, g = str(abs(actual)), str(abs(guess))
    longest, shortest = max(len(a), len(g)), min(len(a), len(g))
    padded_actual, padded_guess = int(a.ljust(longest, "0")), int(g.ljust(longest, "0"))
    top = max(padded_actual, padded_guess)
    if top == 0:
        return 0.0
    credit = (1 - abs(padded_actual - padded_guess) / top) * (1 - (longest - shortest) / longest)
    return min(1.0, max(0.0, credit))


def published_candidates(text: str) -> list[int]:
    """Every run of digits of a reply, as in the published extraction, which ignores signs."""
    return [int(run[:MAX_DIGITS]) for run in _DIGITS.findall(without_thinking(text))]


def published_reply(actual: int, text: str) -> tuple[int | None, float]:
    """The number of a reply with the highest published credit, and that credit."""
    scored = [(published_credit(actual, guess), guess) for guess in published_candidates(text)]
    if not scored:
        return None, 0.0
    credit, guess = max(scored, key=lambda pair: pair[0])
    return guess, credit


def corrected_answer(text: str) -> int | None:
    """The last number of the first line that contains one, with sign and thousands separators; None if there is none."""
    for line in without_thinking(text).splitlines():
        numbers = _NUMBER.findall(line)
        if numbers:
            return int(numbers[-1].replace(",", "")[:MAX_DIGITS])
    return None


def corrected_credit(actual: int, guess: int | None) -> float:
    """Share of correct significant digits: -log10 of the relative error, divided by the answer's length."""
    if guess is None:
        return 0.0
    if guess == actual:
        return 1.0
    if abs(guess) > 2 * abs(actual):
        return 0.0  # avoids a quotient too large for a float
    error = abs(actual - guess) / max(abs(actual), 1)
    length = len(str(abs(actual)))
    return 0.0 if error >= 1 else min(1.0, -math.log10(error) / length)


def shares(logprobs: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Probabilities of the answers normalised to sum 1, and their total probability."""
    top = max(logprobs)
    if top == -math.inf:
        return tuple(1 / len(logprobs) for _ in logprobs), 0.0
    weights = [math.exp(value - top) for value in logprobs]
    total = math.fsum(weights)
    return tuple(w / total for w in weights), min(1.0, total * math.exp(min(top, 0.0)))


def expected_published(actual: int, digits: Sequence[Sequence[float]]) -> float:
    """Expected published credit of a number of the correct length that is generated digit by digit.

    `digits[k][d]` is the probability of digit d after the k correct digits, for all digits or the leading ones. Digits after
    the first wrong one are unknown and count as fives, the middle of the scale.
    """
    text = str(actual)
    credit, p_correct = 0.0, 1.0
    for k, probabilities in enumerate(digits):
        for d, p in enumerate(probabilities):
            if str(d) != text[k]:
                guess = int(text[:k] + str(d) + "5" * (len(text) - k - 1))
                credit += p_correct * p * published_credit(actual, guess)
        p_correct *= probabilities[int(text[k])]
    number = text[: len(digits)].ljust(len(text), "5")
    return credit + p_correct * published_credit(actual, int(number))


def expected_corrected(actual: int, digits: Sequence[Sequence[float]]) -> float:
    """Mean probability of the correct next digit, given the correct ones before it; 0.1 for guessing."""
    return math.fsum(p[int(d)] for d, p in zip(str(actual), digits, strict=False)) / len(digits)
