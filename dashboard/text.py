"""Text from outside (names, responses, errors), made fit to be shown: never markup, never endless, nothing hidden."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~^$:&\"'=/@])")
# Addresses become links wherever Markdown is read, escaped or not; a sign of no width keeps them apart.
_IN_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)(?=[-\w])", re.IGNORECASE)
_JOINER = "\u2060"
# What turns the direction of the text around it, or shows nothing at all.
_HIDDEN = {"Cf", "Co", "Cn", "Cs"}
_KEPT = {"\n", "\t", "\u200d"}

SHORT = 120
LONG = 20_000


def plain(text: str, limit: int = LONG) -> str:
    """The text with control characters made visible, cut to `limit` characters with a note of how many there were."""
    cut = text[:limit]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(_visible(c) for c in cut)
    if len(text) > limit:
        shown += f" […] (the first {limit:,} of {len(text):,} characters)"
    return shown


def line(text: str, limit: int = SHORT) -> str:
    """The text as one line for a cell or a label."""
    cut = " ".join(text[: 2 * limit].split())
    shown = "".join(_visible(c) for c in cut[:limit])
    return shown if len(text) <= limit and len(cut) <= limit else f"{shown}…"


def escaped(text: str, limit: int = SHORT) -> str:
    """One line for a place that reads Markdown: every character that means something there means itself."""
    apart = _IN_ADDRESS.sub(_JOINER, line(text, limit))
    return _MARKDOWN.sub(r"\\\1", apart)


def entity(text: str, limit: int = SHORT) -> str:
    """One line for a figure's labels, which read a little HTML."""
    return line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def duration(seconds: float | None) -> str:
    """A duration as people say it."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(when: datetime | None) -> str:
    """A moment in UTC."""
    return "–" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int | None) -> str:
    """A number of bytes."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def parameters(count: int | None) -> str:
    """A number of parameters, in billions as the boards have it."""
    return "–" if count is None else f"{count / 1e9:.3f} B"


def _visible(character: str) -> str:
    """The character, or a sign for one that would hide or turn what stands around it."""
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
