"""Sanitize foreign text (names, responses, errors): escape markup, limit length, show hidden characters.

One function per place: `plain` and `line` for text and logs, `Terminal` for the terminal, `escaped` for Markdown, `entity` for HTML,
`cell` for CSV and TSV; `ForeignText` and `StorableText` for stored fields. All escaping is done here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~^$:&\"'=/@])")
# Markdown renderers turn URLs into links even when escaped; a zero-width character inside prevents it.
_IN_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)(?=[-\w])", re.IGNORECASE)
_JOINER = "\u2060"
# Unicode categories of characters that are invisible or change the direction of text.
_HIDDEN = {"Cf", "Co", "Cn", "Cs"}
_KEPT = {"\n", "\t", "\u200d"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

SHORT = 120
LONG = 20_000
_MOST_STORED = 64 * 1024


class Terminal(Console):
    """A rich console without markup that shows control and hidden characters as visible symbols."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "highlight": False, "emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, with control characters made visible."""
        for segment in super().render(renderable, options):
            if segment.control or _is_harmless(segment.text):
                yield segment
            else:
                yield Segment("".join(map(_visible, segment.text)), segment.style)


def plain(text: str, limit: int = LONG) -> str:
    """The text with control characters made visible, cut to `limit` characters with a note of its length."""
    cut = text[:limit]
    shown = cut if _is_harmless(cut) else "".join(map(_visible, cut))
    if len(text) > limit:
        shown += f" […] (the first {limit:,} of {len(text):,} characters)"
    return shown


def line(text: str, limit: int = SHORT) -> str:
    """The text as one line for a cell or a label."""
    cut = " ".join(text[: 2 * limit].split())
    shown = "".join(map(_visible, cut[:limit]))
    return shown if len(text) <= limit and len(cut) <= limit else f"{shown}…"


def escaped(text: str, limit: int = SHORT) -> str:
    """The text as one line with all Markdown syntax escaped."""
    unlinked = _IN_ADDRESS.sub(_JOINER, line(text, limit))
    return _MARKDOWN.sub(r"\\\1", unlinked)


def entity(text: str, limit: int = SHORT) -> str:
    """The text as one line with HTML escaped, for Plotly labels, which accept some HTML."""
    return line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cell(value: Any) -> Any:
    """A value for CSV or TSV; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    shown = plain(value)
    return f"'{shown}" if value.lstrip(" ")[:1] in _FORMULA and not _is_number(value) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_harmless(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").isprintable()


def _visible(character: str) -> str:
    """The character, or a visible symbol for a control, invisible or direction-changing character."""
    if character in _KEPT or character.isprintable():
        return character
    code = ord(character)
    if code < 32:
        return chr(0x2400 + code)
    if code == 127:
        return "\u2421"
    if unicodedata.category(character) in _HIDDEN or code < 160:
        return "\ufffd"
    return " " if character.isspace() else "\ufffd"


def _storable_end(text: str) -> str:
    """Text that every database accepts: without NUL and lone surrogates, cut to its end if it is too long."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return text if len(text) <= _MOST_STORED else "[...]" + text[-_MOST_STORED:]


def unstorable(text: str) -> str | None:
    """A description of the first character that no database can store; None if all can be stored."""
    if "\0" in text:
        return "NUL (U+0000)"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair (U+{ord(text[error.start]):04X})"
    return None


def _storable(text: str) -> str:
    character = unstorable(text)
    if character is not None:
        raise ValueError(f"it holds a character, {character}, that no file or database can store")
    return text


ForeignText = Annotated[str, AfterValidator(_storable_end)]
StorableText = Annotated[str, AfterValidator(_storable)]
