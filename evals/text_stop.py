"""Where a generated text ends: stop strings and end tokens, handled as in lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cut_at_stops(text: str, stops: Sequence[str]) -> str:
    """The text before the first of each stop string, as lm-eval cuts every generation."""
    for stop in stops:
        if stop:
            text = text.split(stop, maxsplit=1)[0]
    return text


def with_end_token(stops: Sequence[str], end_text: str) -> tuple[str, ...]:
    """The stop strings and, as in lm-eval, the text of the end-of-sequence token after them."""
    return tuple(stops) if end_text in stops or not end_text else (*stops, end_text)


def final_text(tokenizer: Any, tokens: Sequence[int], stops: Sequence[str], end_text: str) -> str:
    """A generation's text as in lm-eval's `hf` model: the new tokens decoded without the prompt and without special tokens, cut
    at the stop strings. The space that a SentencePiece tokenizer puts before the first word is not part of it."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=True)
    return cut_at_stops(text, with_end_token(stops, end_text))


class StopStrings:
    """Detects stop strings in a growing sequence of tokens."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        # A token is at least one byte, so a stop string lies within this many of the last tokens.
        self._reach = max((len(stop.encode()) for stop in self._stops), default=0) + 1

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether the text of the tokens contains a stop string; call it after every token."""
        if not self._stops or not self._contains_stop(tokens[-self._reach :]):
            return False
        # Decoded alone, the end can contain characters that the full text does not.
        return self._contains_stop(tokens)

    def _contains_stop(self, tokens: Sequence[int]) -> bool:
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return any(stop in text for stop in self._stops)


def end_tokens(tokenizer: Any, stated: int | Sequence[int] | None) -> frozenset[int]:
    """The tokens that end a sequence: the tokenizer's and those of the checkpoint's generation config."""
    listed = stated if isinstance(stated, (list, tuple)) else [stated]
    return frozenset(int(end) for end in (*listed, tokenizer.eos_token_id) if end is not None)


def end_text_of(tokenizer: Any) -> str:
    """Text of the end-of-sequence token; empty if there is none."""
    end = tokenizer.eos_token_id
    return str(tokenizer.decode([end])) if end is not None else ""
