"""Prefixes and trees of tokens, and where a text ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lm_eval.models.utils import postprocess_generated_text

from evals.text_stop import cut_at_stops, with_end_token
from evals.token_tree import TokenTree, common_prefix

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple)


@given(st.lists(TOKENS, min_size=1, max_size=6))
def test_rows_spell_the_continuations(continuations: list[tuple[int, ...]]) -> None:
    tree = TokenTree.of(continuations)
    spelled: list[tuple[int, ...]] = [()]
    for token, parent, depth in zip(tree.tokens, tree.parents, tree.depths, strict=True):
        spelled.append((*spelled[parent], token))
        assert len(spelled[-1]) == depth
    assert len(set(spelled)) == len(spelled)
    for rows, continuation in zip(tree.rows, continuations, strict=True):
        assert [spelled[row] for row in rows] == [continuation[:n] for n in range(len(continuation))]


@given(TOKENS, TOKENS)
def test_common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert a[: n + 1] != b[: n + 1] or n == min(len(a), len(b))


@given(st.text("ab\n", max_size=20), st.lists(st.text("ab\n", max_size=3), max_size=3))
def test_texts_are_cut_as_lm_eval_cuts_them(text: str, stops: list[str]) -> None:
    assert cut_at_stops(text, stops) == postprocess_generated_text(text, stops, None)


def test_the_end_token_comes_last_and_once() -> None:
    assert with_end_token(("\n",), "</s>") == ("\n", "</s>")
    assert with_end_token(("</s>", "\n"), "</s>") == ("</s>", "\n")
    assert with_end_token(("\n",), "") == ("\n",)
