"""Where a generated text ends: stop strings, cut the way lm-eval cuts them."""

from __future__ import annotations

from collections.abc import Sequence


def cut_at_stops(text: str, stops: Sequence[str]) -> str:
    """The text before the stop strings, cut at each in turn, as lm-eval does after every generation."""
    for stop in stops:
        if stop:
            text = text.split(stop, maxsplit=1)[0]
    return text


def with_end_token(stops: Sequence[str], end_text: str) -> tuple[str, ...]:
    """The stop strings and, as in lm-eval, the text of the end-of-sequence token after them."""
    return tuple(stops) if end_text in stops or not end_text else (*stops, end_text)
