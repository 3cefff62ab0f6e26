"""Colours of the pages' own components as CSS values, from the charts' theme."""

from __future__ import annotations

from dashboard import widgets
from orchestrator.charts.contrast import mixed
from orchestrator.charts.theme import LOOKS, Theme

_ACCENT = {Theme.LIGHT: "#0b5fa5", Theme.DARK: "#6cb4f5"}
_DIFFERS = {Theme.LIGHT: "#f7e3a1", Theme.DARK: "#5c4a12"}


def component_colours() -> dict[str, str]:
    """CSS colours by name; those of text have WCAG AA contrast on `paper` and `chosen`."""
    theme = widgets.theme()
    look, accent = LOOKS[theme], _ACCENT[theme]
    return {
        "paper": look.paper,
        "ink": look.ink,
        "faint": look.faint,
        "grid": look.grid,
        "edge": mixed(look.faint, look.paper, 0.5),
        "accent": accent,
        "better": look.better.text,
        "worse": look.worse.text,
        "chosen": mixed(accent, look.paper, 0.10 if theme is Theme.LIGHT else 0.20),
        "hover": mixed(look.faint, look.paper, 0.08),
        "differs": _DIFFERS[theme],
    }
