"""Colours of the comparison's own components, from the charts' theme."""

from __future__ import annotations

from dashboard import widgets
from orchestrator.charts import Theme
from orchestrator.charts.theme import LOOKS

_ACCENT = {Theme.LIGHT: "#0b5fa5", Theme.DARK: "#6cb4f5"}


def component_colours() -> dict[str, str]:
    """CSS colours by name; `gain` and `loss` are dark (or bright) enough for text, WCAG AA."""
    theme = widgets.theme()
    look, accent = LOOKS[theme], _ACCENT[theme]
    return {
        "paper": look.paper,
        "ink": look.ink,
        "faint": look.faint,
        "grid": look.grid,
        "edge": _mixed(look.faint, look.paper, 0.5),
        "accent": accent,
        "gain": _mixed(look.gain, look.ink, 0.8),
        "loss": _mixed(look.loss, look.ink, 0.7),
        "chosen": _mixed(accent, look.paper, 0.10 if theme is Theme.LIGHT else 0.20),
        "hover": _mixed(look.faint, look.paper, 0.08),
        "differs": _mixed("#e0a800", look.paper, 0.34 if theme is Theme.LIGHT else 0.30),
    }


def _mixed(colour: str, other: str, share: float) -> str:
    """`share` of a colour, the rest of another."""
    parts = ((int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in parts)
