"""Word-wise differences of two texts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.display.word_diff import MAX_CHARACTERS, word_diff
from tests.support.time_bound import cpu_bound


def differing(pieces: tuple[tuple[str, bool], ...]) -> list[str]:
    return [text for text, differs in pieces if differs]


def test_the_words_that_differ_are_marked() -> None:
    left, right = word_diff("The answer is 41, I think.", "The answer is 42, I am sure.")
    assert differing(left) == ["41", "think"]
    assert differing(right) == ["42", "am sure"]


def test_a_word_that_moved_leaves_the_rest_shared() -> None:
    text = " ".join(f"word{n}" for n in range(400))
    left, right = word_diff(text, text.replace("word200 ", "").replace("word7 ", "other "))
    assert [text.strip() for text in differing(left)] == ["word7", "word200"]
    assert differing(right) == ["other"]


@given(st.text(alphabet="ab \n.", max_size=120), st.text(alphabet="ab \n.", max_size=120))
def test_pieces_add_up_and_the_shared_ones_are_equal(left: str, right: str) -> None:
    pieces = word_diff(left, right)
    assert "".join(p.text for p in pieces[0]) == left
    assert "".join(p.text for p in pieces[1]) == right
    shared = ["".join(p.text for p in side if not p.differs) for side in pieces]
    assert [*filter(str.strip, shared[0])] == [*filter(str.strip, shared[1])]
    assert not differing(word_diff(left, left)[0])


def test_hostile_texts_take_no_longer_than_others() -> None:
    dice = random.Random(1)
    letters = ["".join(dice.choices("ab ", k=60_000)) for _ in range(2)]
    pairs = [("a " * 30_000, "a" * 60_000), ("ab " * 20_000, "ba " * 20_000), (letters[0], letters[1])]
    with cpu_bound(10):
        for left, right in pairs:
            pieces = word_diff(left, right)
            assert "".join(p.text for p in pieces[0]) == left
            assert pieces[0][-1].differs, "what follows the longest compared text is not called equal"
            assert len(left) > MAX_CHARACTERS
