"""Long cards: bounds on their lines, and the work that is done once per card."""

from __future__ import annotations

import pytest

from orchestrator.cards import read
from orchestrator.cards.front_matter import MAX_BODY_LINES, MAX_LINES
from orchestrator.cards.read import card_claims, read_card
from orchestrator.errors import CardError

TABLE = "# My-7B\n\n| Model | MMLU | GSM8K |\n|---|---|---|\n| My-7B | 61.2 | 50.1 |\n"


def test_too_many_lines_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "grids", lambda *_: pytest.fail("its tables were searched"))
    for text, words in (
        ("# Evaluation\n" + "](**\n\n" * 333_000, "has 666,001 lines; a card of more than 50,000 is not read"),
        (TABLE + "word\n" * MAX_BODY_LINES, "has 10,005 lines of text; a card of more than 10,000 is not read"),
    ):  # fmt: skip
        with pytest.raises(CardError, match=words):
            read_card(text, "card.md")


def test_long_metadata_and_the_longest_text_are_read() -> None:
    """Metadata can hold the results of thousands of subsets."""
    metadata = "---\ntags:\n" + "- a\n" * (MAX_LINES - MAX_BODY_LINES - 4) + "---\n"
    text = metadata + TABLE + "word\n" * (MAX_BODY_LINES - 7)
    claims = card_claims(read_card(text, "card.md"))
    assert [claim.value for claim in claims] == [61.2, 50.1]


def test_code_and_headings_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(read, "in_code", lambda lines: calls.append(1) or [False] * len(lines))
    read_card(TABLE, "card.md")
    assert calls == [1]


def test_a_card_of_benchmarks_in_no_suite_has_claims() -> None:
    """A table below the title alone: its names say that they are benchmarks."""
    head = "# My-Model-7B\n\n| Model | {} |\n|---|---|---|\n| My-Model-7B | 50.2 | 61.3 |\n"
    claims = card_claims(read_card(head.format("Zebra-Bench | Frobnicate-Eval"), "card.md"))
    assert [(c.title, c.value, c.suite) for c in claims] == [
        ("Zebra-Bench", 50.2, None),
        ("Frobnicate-Eval", 61.3, None),
    ]
    assert card_claims(read_card(head.format("Width | Depth"), "card.md")) == ()
