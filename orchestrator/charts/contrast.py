"""Mixing of colours, and their contrast by WCAG 2. Colours are `#rrggbb`."""

from __future__ import annotations

_LEAST = 4.6
"""WCAG 2 AA asks for a contrast of 4.5; browsers round."""


def mixed(colour: str, paper: str, share: float) -> str:
    """A colour on paper, as strong as its share."""
    pairs = ((int(colour[k : k + 2], 16), int(paper[k : k + 2], 16)) for k in (1, 3, 5))
    return "#" + "".join(f"{round(c * share + p * (1 - share)):02x}" for c, p in pairs)


def readable(colour: str, paper: str, ink: str) -> str:
    """The colour, mixed with ink until text in it is readable on the paper."""
    for tenth in range(11):
        text = mixed(ink, colour, tenth / 10)
        if contrast(text, paper) >= _LEAST:
            return text
    return ink


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21, as WCAG defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
