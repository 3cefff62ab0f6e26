"""Colours of the pages' own components as CSS values, from the charts' theme."""

from __future__ import annotations

from dashboard import widgets
from orchestrator.charts.theme import LOOKS, Theme

_ACCENT = {Theme.LIGHT: "#0b5fa5", Theme.DARK: "#6cb4f5"}
_DIFFERS = {Theme.LIGHT: "#f7e3a1", Theme.DARK: "#5c4a12"}
_STRING = {Theme.LIGHT: "#0a6b33", Theme.DARK: "#7ee0a3"}


def component_colours() -> dict[str, str]:
    """CSS colours by name; those of text have WCAG AA contrast on `paper` and `chosen`."""
    theme = widgets.theme()
    look, accent = LOOKS[theme], _ACCENT[theme]
    return {
        "paper": look.paper,
        "ink": look.ink,
        "faint": look.faint,
        "grid": look.grid,
        "edge": _mixed(look.faint, look.paper, 0.5),
        "accent": accent,
        "better": look.better.text,
        "worse": look.worse.text,
        "chosen": _mixed(accent, look.paper, 0.10 if theme is Theme.LIGHT else 0.20),
        "hover": _mixed(look.faint, look.paper, 0.08),
        "differs": _DIFFERS[theme],
        "string": _STRING[theme],
    }


def _mixed(colour: str, other: str, share: float) -> str:
    """`share` of a colour, the rest of another."""
    parts = ((int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in parts)
