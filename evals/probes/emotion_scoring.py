"""Scoring of emotion ratings: the published formula, and a corrected one.

Published (first-pass form of EQ-Bench as used by the layer-repetition method): ratings are compared with a reference
scaled to the sum 10, although the prompt asks for ratings from 0 to 10; and the credit is mixed with 0.5 by a confidence
that depends on how the answer was extracted. A well-formed answer therefore gets 0.1 to 0.9, and the unscaled reference
itself loses credit.

Corrected: the full-scale reference, labels checked, no confidence. Each emotion's credit is 1 minus the distance to its
rating, divided by the largest distance that an answer from 0 to 10 can have; an emotion without an answer gets 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from evals.probes.arithmetic_scoring import without_thinking

TOP = 10.0
N_EMOTIONS = 4
_MIDDLE = 5.0
_FIRST = re.compile(r"first[ _-]?pass[ _-]?scores?\s*:?", re.IGNORECASE)
_REVISED = re.compile(r"revised[ _-]?scores?\s*:?", re.IGNORECASE)
_PAIR = re.compile(
    r"(?<![\w'-])(?:(?![A-Za-z])[\w'-])*[A-Za-z][\w'-]*+\s*+:\s*+(\d++(?:\.\d++)?)(?![\d.]*\d)"
)
_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?")


class Parsed(NamedTuple):
    """Four ratings as extracted by the published method, and its confidence in them."""

    ratings: tuple[float, ...]
    confidence: float


def parse_published(text: str) -> Parsed:
    """The first four ratings of the first-pass and revised sections, else of any numbers, else 5; labels are ignored."""
    first_at, revised_at = _FIRST.search(text), _REVISED.search(text)
    first = revised = None
    if first_at:
        ends = revised_at.start() if revised_at and revised_at.start() > first_at.start() else len(text)
        first = _section(text[first_at.end() : ends])
    if revised_at:
        ends = first_at.start() if first_at and first_at.start() > revised_at.start() else len(text)
        revised = _section(text[revised_at.end() : ends])
    if first and revised:
        return Parsed(tuple((a + b) / 2 for a, b in zip(first, revised, strict=True)), 1.0)
    if revised:
        return Parsed(revised, 0.9)
    if first:
        return Parsed(first, 0.8)
    numbers = [value for value in map(float, _NUMBER.findall(text)) if value <= TOP][:N_EMOTIONS]
    filled = tuple(numbers) + (_MIDDLE,) * (N_EMOTIONS - len(numbers))
    return Parsed(filled, 0.5 if len(numbers) == N_EMOTIONS else len(numbers) / 8)


def _section(text: str) -> tuple[float, ...] | None:
    """The first four ratings of a section with at least three; a missing fourth is 5."""
    ratings = [value for value in map(float, _PAIR.findall(text)) if value <= TOP][:N_EMOTIONS]
    if len(ratings) < N_EMOTIONS - 1:
        return None
    return tuple(ratings) + (_MIDDLE,) * (N_EMOTIONS - len(ratings))


def scaled_reference(reference: Sequence[float]) -> tuple[float, ...]:
    """A reference scaled to the sum 10, as in the published scoring."""
    total = math.fsum(reference)
    return tuple(value * TOP / total for value in reference)


def published_credit(reference: Sequence[float], parsed: Parsed) -> float:
    """The published credit of four ratings against a full-scale reference."""
    distance = math.fsum(abs(p - r) for p, r in zip(parsed.ratings, scaled_reference(reference), strict=True))
    raw = max(0.0, 1 - distance / (N_EMOTIONS * TOP))
    return parsed.confidence * raw + (1 - parsed.confidence) * 0.5


def parse_corrected(text: str, emotions: Sequence[str]) -> tuple[float | None, ...]:
    """The rating of each emotion by name, from the revised section if there is one; None if it is missing."""
    text = without_thinking(text)
    revised = _REVISED.search(text)
    return tuple(_rating(text[revised.end() :] if revised else text, emotion) for emotion in emotions)


def _rating(text: str, emotion: str) -> float | None:
    match = re.search(rf"\b{re.escape(emotion)}\b(?:[^\w\n-]|-(?!\d))*(\d+(?:\.\d+)?)", text, re.IGNORECASE)
    value = float(match[1]) if match else None
    return value if value is not None and value <= TOP else None


def corrected_credit(reference: Sequence[float], ratings: Sequence[float | None]) -> float:
    """Mean over the emotions of 1 - distance / largest possible distance; 0 for an emotion without a rating."""
    credits = [
        0.0 if p is None else 1 - abs(p - r) / max(r, TOP - r)
        for p, r in zip(ratings, reference, strict=True)
    ]
    return math.fsum(credits) / len(credits)


def expected_rating(probabilities: Sequence[float]) -> float:
    """Expected digit (0 to 9) under these probabilities, scaled to 0 to 10."""
    return math.fsum(digit * p for digit, p in enumerate(probabilities)) * TOP / 9
