"""Word-wise differences of two texts, for display; bounded, and linear in the length of the texts.

`difflib` needs time that grows with the square of the length or worse, and a response is foreign text. Here equal ends are
cut off, words that occur once in both texts are matched in order (patience diff), and the gaps between them are treated in the
same way a few times. What is then left is aligned exactly if it is short, and counts as different if it is not.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_CHARACTERS = 20_000
"""Longest compared text, in characters; what follows counts as different."""
_ROUNDS = 6
_SHORT = 32
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    differs: bool


def word_diff(left: str, right: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts as pieces, each marked as shared or not; the pieces of a text add up to the text."""
    words = [_WORD.findall(text[:MAX_CHARACTERS]) for text in (left, right)]
    shared = list(_matches(words[0], words[1], 0, 0, _ROUNDS))
    pieces = (
        _pieces(words[0], {i for i, _ in shared}, left[MAX_CHARACTERS:]),
        _pieces(words[1], {j for _, j in shared}, right[MAX_CHARACTERS:]),
    )
    return pieces


def _matches(
    left: Sequence[str], right: Sequence[str], at_left: int, at_right: int, rounds: int
) -> Iterator[tuple[int, int]]:
    """Positions of matching words, in order; `at_left` and `at_right` are the positions of the first words."""
    start, end = _equal_ends(left, right)
    for n in range(start):
        yield at_left + n, at_right + n
    for n in range(1, end + 1):
        yield at_left + len(left) - n, at_right + len(right) - n
    inner_left, inner_right = left[start : len(left) - end], right[start : len(right) - end]
    if inner_left and inner_right:
        yield from _inner(inner_left, inner_right, at_left + start, at_right + start, rounds)


def _inner(
    left: Sequence[str], right: Sequence[str], at_left: int, at_right: int, rounds: int
) -> Iterator[tuple[int, int]]:
    """The matches of two sequences with different ends."""
    lengths = len(left), len(right)
    if min(lengths) <= _SHORT:
        matches = _aligned(left, right) if max(lengths) <= 20 * _SHORT else ()
        yield from ((at_left + i, at_right + j) for i, j in matches)
        return
    anchors = _anchors(left, right) if rounds else []
    if not anchors:
        return
    i0, j0 = 0, 0
    for i, j in (*anchors, lengths):
        yield from _matches(left[i0:i], right[j0:j], at_left + i0, at_right + j0, rounds - 1)
        if i < len(left):
            yield at_left + i, at_right + j
        i0, j0 = i + 1, j + 1


def _equal_ends(left: Sequence[str], right: Sequence[str]) -> tuple[int, int]:
    """Number of equal words at the beginning and at the end, which do not overlap."""
    most = min(len(left), len(right))
    start = next((n for n in range(most) if left[n] != right[n]), most)
    end = next((n for n in range(most - start) if left[-1 - n] != right[-1 - n]), most - start)
    return start, end


def _anchors(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of words that occur once in both, as the longest sequence in the same order."""
    counts = Counter(left), Counter(right)
    place = {word: j for j, word in enumerate(right) if counts[1][word] == 1}
    unique = [(i, place[word]) for i, word in enumerate(left) if counts[0][word] == 1 and word in place]
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, j) in enumerate(unique):
        length = bisect_left(ends, j)
        before.append(last[length - 1] if length else -1)
        if length == len(ends):
            ends.append(j)
            last.append(number)
        else:
            ends[length], last[length] = j, number
    chain, number = [], last[-1] if last else -1
    while number >= 0:
        chain.append(unique[number])
        number = before[number]
    return chain[::-1]


def _aligned(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The longest common subsequence of two sequences of which one is short."""
    lengths = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in range(len(left) - 1, -1, -1):
        for j in range(len(right) - 1, -1, -1):
            lengths[i][j] = (
                lengths[i + 1][j + 1] + 1
                if left[i] == right[j]
                else max(lengths[i + 1][j], lengths[i][j + 1])
            )
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            yield i, j
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1


def _pieces(words: Sequence[str], shared: set[int], rest: str) -> tuple[Piece, ...]:
    """Neighbouring words of the same kind as one piece; white space between different words belongs to them."""
    marked = [number not in shared for number in range(len(words))]
    for number in range(1, len(words) - 1):
        if words[number].isspace() and marked[number - 1] and marked[number + 1]:
            marked[number] = True
    pieces: list[Piece] = []
    start = 0
    for number in range(1, len(words) + 1):
        if number == len(words) or marked[number] != marked[start]:
            pieces.append(Piece("".join(words[start:number]), marked[start]))
            start = number
    if not words:
        pieces = []
    return (*pieces, Piece(rest, True)) if rest else tuple(pieces)
