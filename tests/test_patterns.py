"""No regular expression of the product takes more than linear time, and the rewritten ones mean what they meant."""

from __future__ import annotations

import re

import pytest

from evals.claims.labels import plain
from evals.probes.arithmetic_scoring import without_thinking
from evals.probes.emotion_scoring import _PAIR
from evals.results_files.parse import parse_results
from orchestrator.cards.grid import grids
from orchestrator.cards.read import _sizes
from orchestrator.cards.stated import stated_facts
from orchestrator.provenance import without_secrets
from recipes.extract import find_proposals
from recipes.layer_path import LayerPathSpec
from tests.support.pumping import Use, slowest, uses
from tests.support.time_bound import cpu_bound


def test_every_pattern_of_the_source_takes_linear_time() -> None:
    patterns = list(uses())
    assert len(patterns) > 100
    found = [slowest(use, (1_000, 2_000, 4_000)) for use in patterns]
    assert [f"{f.use.place} {f.input} {f.seconds}" for f in found if f.grows] == []


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"a*a*b", r"\s*x", r"(?:^|,)\s*-?\s*m"])
def test_the_tool_finds_patterns_that_are_slow(pattern: str) -> None:
    assert slowest(Use("here", re.compile(pattern), "search"), (2_000, 4_000, 8_000)).grows


def test_a_line_of_51_characters_does_not_hold_a_card() -> None:
    line = "x " + "1   " * 11 + "1 !!!"
    with cpu_bound(2):
        grids("\n".join([line] * 2_000), lambda label: True)


@pytest.mark.parametrize(
    "text",
    [
        "```\nslices\n" + "\n" * 90_000 + "```\n",
        "~" * 200_000 + "`",
        "[" * 1_000_000,
        "." * 1_000_000,
        "<p" * 500_000,
        "slices:\n" + "- " * 20_000 + "\n" * 50_000,
    ],
    ids=["blank lines", "fence", "brackets", "dots", "tags", "dashes"],
)
def test_cards_made_to_be_slow_are_read_quickly(text: str) -> None:
    with cpu_bound(3):
        find_proposals(text)
        stated_facts(text)


def test_many_blocks_in_prose_are_bounded() -> None:
    text = "\n".join(f"layers ({i}, {j})" for i in range(200) for j in range(i + 1, 200))
    with cpu_bound(3):
        assert 0 < len(find_proposals(text)) <= 100


def test_spaces_in_a_layer_path_cost_nothing() -> None:
    with cpu_bound(0.5):
        assert LayerPathSpec.parse("( 3 ,\n 5 )" + " " * 90_000).text == "blocks:3,5"


def test_links_in_labels_are_still_taken_for_their_text() -> None:
    assert plain("[BBH](https://x.org/a_(b)_c)") == "bbh"
    assert plain("[MMLU-Pro](https://x.org) (5-shot)") == "mmlupro"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a</think>b", "b"),
        ("a<think>b", "a<think>b"),
        ("<think>x<think>y</think>z</think>", "z</think>"),
        ("1<think></think>2<think>3</think>4", "124"),
    ],
)
def test_thinking_is_removed_as_before(text: str, left: str) -> None:
    assert without_thinking(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Joy: 5",
        "3abc : 4.5",
        "it's-a: 7, b:8.",
        "a: 1.2.3",
        "é: 5",
        "éa: 5",
        "a_: 11 b: 1 1",
        "a: 5.5.",
        "x:y: 3",
    ],
)
def test_pairs_of_ratings_are_those_of_the_pattern_before(text: str) -> None:
    before = re.compile(r"[A-Za-z][\w'-]*\s*:\s*(\d+(?:\.\d+)?)(?![\d.]*\d)")
    assert _PAIR.findall(text) == before.findall(text)


def test_sizes_are_read_with_the_words_before_them() -> None:
    body = "The model has 72.7B parameters.\nIt adds 7B parameters to 65B parameters, 8.5 billion params."
    assert [s.parameters_b for s in _sizes(None, body)] == [72.7, 8.5]


def test_a_password_without_a_user_is_masked() -> None:
    assert "secret" not in without_secrets("redis://:secret@host/0 postgresql://u:secret@h/d")


def test_a_details_card_that_never_closes_is_refused_quickly() -> None:
    with cpu_bound(2), pytest.raises(Exception, match="not JSON"):
        parse_results("```\n{\n" * 100_000, "card.md")
