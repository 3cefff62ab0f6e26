"""Reads `tokenizer:` and `tokenizer_source:`, two spellings of the same setting."""

from __future__ import annotations

from collections.abc import Callable

from recipes.recipe.node import Node, quoted
from recipes.recipe.refs import ModelRef
from recipes.recipe.stage import TokenizerRule, TokenRule

MAX_TOKENS = 10_000
MAX_PADDING = 1_000_000

Reader = Callable[[Node], ModelRef | None]


def read_tokenizer(node: Node, read_ref: Reader) -> TokenizerRule | None:
    """Read the tokenizer rule; None if the tokenizer is copied."""
    short, full = node.child("tokenizer_source"), node.child("tokenizer")
    if short.value is not None and full.value is not None:
        full.refuse("give tokenizer or tokenizer_source, not both.")
    if short.value is not None:
        return TokenizerRule(source=_read_source(short, read_ref))
    if full.value is None:
        return None
    full.check_keys({"source", "tokens", "pad_to_multiple_of"})
    source, tokens, padding = (full.child(key) for key in ("source", "tokens", "pad_to_multiple_of"))
    multiple = None if padding.value is None else padding.integer()
    if multiple is not None and not 0 <= multiple <= MAX_PADDING:
        padding.refuse(f"{multiple:,} is not a valid multiple for a vocabulary; it is 0 to {MAX_PADDING:,}.")
    return TokenizerRule(
        source="union" if "source" not in full.value else _read_source(source, read_ref),
        tokens=() if tokens.value is None else _read_tokens(tokens, read_ref),
        pad_to_multiple_of=multiple or None,
    )


def _read_source(node: Node, read_ref: Reader) -> ModelRef | str:
    if node.value in ("union", "base"):
        return str(node.value)
    reference = read_ref(node)
    if reference is None:
        node.refuse("`base`, `union` or the name of a checkpoint is expected here.")
    return reference


def _read_tokens(node: Node, read_ref: Reader) -> tuple[TokenRule, ...]:
    if len(node.mapping()) > MAX_TOKENS:
        node.refuse(f"{len(node.value):,} tokens; at most {MAX_TOKENS:,} are read.")
    return tuple(_read_token(node.child(token), token, read_ref) for token in sorted(node.value))


def _read_token(node: Node, token: str, read_ref: Reader) -> TokenRule:
    node.check_keys({"source", "force"})
    force = node.child("force").value is not None and node.child("force").boolean()
    source = node.child("source")
    if not isinstance(source.value, dict) or "kind" not in source.value:
        return TokenRule(token=token, model=read_ref(source), force=force)
    kind = source.child("kind").text()
    if kind == "zero":
        source.check_keys({"kind"})
        return TokenRule(token=token, zero=True, force=force)
    if kind != "model_token":
        source.child("kind").refuse(f"{quoted(kind)} is neither model_token nor zero.")
    source.check_keys({"kind", "model", "token_id", "token"})
    model, text, number = (source.child(key) for key in ("model", "token", "token_id"))
    if (text.value is None) == (number.value is None):
        source.refuse("give exactly one of token and token_id.")
    reference = read_ref(model)
    if reference is None:
        model.refuse("the checkpoint's name is missing.")
    other = number.integer() if text.value is None else text.text()
    return TokenRule(token=token, model=reference, other_token=other, force=force)
