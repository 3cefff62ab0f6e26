"""How charts look: two themes, one set of colours that the colour-blind can tell apart (Okabe and Ito)."""

from __future__ import annotations

import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import Field

from evals.engine import Frozen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_FONTS = ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"]


class Theme(StrEnum):
    """Light or dark."""

    LIGHT = "light"
    DARK = "dark"


class Look(Frozen):
    """The colours of one theme."""

    paper: str = Field(description="Background.")
    ink: str = Field(description="Text.")
    faint: str = Field(description="Secondary text and axes.")
    grid: str = Field(description="Grid lines.")
    missing: str = Field(description="A cell that was not measured.")
    missing_mark: str = Field(description="The hatching of such a cell.")
    failed: str = Field(description="A cell whose measurement failed.")
    base: str = Field(description="The ring around the base.")
    best: str = Field(description="The ring around the best.")
    better: str = Field(description="Better than the base, as in the heatmaps.")
    worse: str = Field(description="Worse than the base, as in the heatmaps.")
    unsure: str = Field(description="Not significantly different.")
    gain: str = Field(description="A benchmark that is significantly better.")
    loss: str = Field(description="A benchmark that is significantly worse.")
    ramp: tuple[str, ...] = Field(description="Colours from few to many added layers.")
    null: str = Field(description="Null levels.")


LOOKS = {
    Theme.LIGHT: Look(
        paper="#ffffff",
        ink="#1b1f24",
        faint="#59636e",
        grid="#e4e8ec",
        missing="#e3e5e8",
        missing_mark="#b9bec5",
        failed="#8b929b",
        base="#000000",
        best="#009e4f",
        better="#b2182b",
        worse="#2166ac",
        unsure="#9aa3ad",
        gain="#00835f",
        loss="#d55e00",
        ramp=("#440154", "#414487", "#2a788e", "#22a884", "#7ad151"),
        null="#b07d00",
    ),
    Theme.DARK: Look(
        paper="#12161c",
        ink="#e8ecf1",
        faint="#9aa6b2",
        grid="#27303a",
        missing="#2a313a",
        missing_mark="#4a5562",
        failed="#6b7683",
        base="#ffffff",
        best="#35d07f",
        better="#f4745f",
        worse="#5aa9e6",
        unsure="#77828e",
        gain="#2fcf9f",
        loss="#ff8a3d",
        ramp=("#4b6fb5", "#2a92a8", "#22b184", "#7ad151", "#fde725"),
        null="#f0b429",
    ),
}

# ColorBrewer's RdBu, reversed: blue is worse than the base, white the base, red better.
DIVERGING = (
    "#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7",
    "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f",
)  # fmt: skip


def plotly_layout(theme: Theme, title: str, subtitle: str = "", **more: Any) -> dict[str, Any]:
    """The part of a plotly layout that all charts share. Names from outside are escaped before they come here."""
    look = LOOKS[theme]
    below = f"<br><span style='font-size:13px;color:{look.faint}'>{subtitle}</span>" if subtitle else ""
    axis = {
        "gridcolor": look.grid,
        "linecolor": look.faint,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": look.grid,
    }
    layout: dict[str, Any] = {
        "title": {
            "text": f"<b>{title}</b>{below}",
            "x": 0.02,
            "xanchor": "left",
            "y": 0.97,
            "yanchor": "top",
        },
        "font": {"family": FONT, "size": 13, "color": look.ink},
        "paper_bgcolor": look.paper,
        "plot_bgcolor": look.paper,
        "margin": {"l": 70, "r": 30, "t": 90, "b": 70},
        "xaxis": dict(axis),
        "yaxis": dict(axis),
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.14, "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        "hoverlabel": {"font": {"family": FONT}, "align": "left"},
    }
    for key, value in more.items():
        layout[key] = {**layout[key], **value} if isinstance(layout.get(key), dict) else value
    return layout


def new_figure(theme: Theme, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty matplotlib figure in the theme's colours; no global state is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    look = LOOKS[theme]
    engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), facecolor=look.paper, layout=engine)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    style_axes(axes, theme)
    return figure, axes


def style_axes(axes: Axes, theme: Theme) -> None:
    """Quiet axes: no box, faint ticks."""
    look = LOOKS[theme]
    axes.set_facecolor(look.paper)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(look.faint)
    axes.tick_params(colors=look.faint, labelsize=9.5, length=3)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.ink)
        label.set_fontsize(11)


def headline(figure: Figure, theme: Theme, title: str, subtitle: str = "") -> None:
    """Title and subtitle above everything, left-aligned and wrapped; names from outside are text, never mathematics."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    look, (width, height) = LOOKS[theme], figure.get_size_inches()
    titles = textwrap.wrap(title, int(width * 8.6)) or [""]
    lines = textwrap.wrap(subtitle, int(width * 14))
    at = height - 0.16
    for line, size, step, colour, weight in (
        *((line, 13.5, 0.28, look.ink, "bold") for line in titles),
        *((line, 9.5, 0.2, look.faint, "normal") for line in lines),
    ):
        text = figure.text(
            0.16 / width,
            at / height,
            line,
            fontsize=size,
            color=colour,
            fontweight=weight,
            va="top",
            in_layout=False,
        )
        text.set_parse_math(False)
        at -= step
    figure.set_layout_engine(
        ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, rect=(0, 0, 1, (at - 0.02) / height))
    )


def ring(axes: Axes, x: float, y: float, theme: Theme) -> None:
    """The base's ring, with a halo that lifts it off the points below."""
    look = LOOKS[theme]
    axes.scatter([x], [y], s=170, facecolors="none", edgecolors=look.paper, linewidths=5.5, zorder=4)
    axes.scatter(
        [x], [y], s=170, facecolors="none", edgecolors=look.base, linewidths=2.4, zorder=5, label="Base"
    )


def fonts() -> dict[str, Any]:
    """matplotlib settings under which figures are written: first font that is there, text as text in SVG."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": _FONTS,
        "svg.fonttype": "none",
        "svg.hashsalt": "mergeboard",
    }
