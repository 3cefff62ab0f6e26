"""Colours and marks of pages, images and reports, light and dark: blue is better, orange worse, grey neither.

Readers with any common kind of colour blindness can tell them apart; a mark says the same in shape.
"""

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
    """The light or the dark theme."""

    LIGHT = "light"
    DARK = "dark"


class Meaning(StrEnum):
    """What a difference to the base means: each has its colour, its tint and its mark, everywhere."""

    BETTER = "better"
    WORSE = "worse"
    BETTER_UNCORRECTED = "better before correction"
    WORSE_UNCORRECTED = "worse before correction"
    NEUTRAL = "no difference shown"
    REFUSED = "not compared"

    @property
    def mark(self) -> str:
        """The mark beside a number, so that colour is never the only sign; empty for no difference."""
        return _MARKS[self]


_MARKS = {
    Meaning.BETTER: "\N{BLACK UP-POINTING TRIANGLE}",
    Meaning.WORSE: "\N{BLACK DOWN-POINTING TRIANGLE}",
    Meaning.BETTER_UNCORRECTED: "\N{WHITE UP-POINTING TRIANGLE}",
    Meaning.WORSE_UNCORRECTED: "\N{WHITE DOWN-POINTING TRIANGLE}",
    Meaning.NEUTRAL: "",
    Meaning.REFUSED: "\N{CIRCLED DIVISION SLASH}",
}


def meaning_of(
    delta: float | None, *, significant: bool, excludes_zero: bool = False, lower_is_better: bool = False
) -> Meaning:
    """The meaning of a difference: significant after the correction, or only its own interval excludes 0.

    `delta` is null if the two were not compared.
    """
    if delta is None:
        return Meaning.REFUSED
    improved = (delta > 0) is not lower_is_better
    if significant:
        return Meaning.BETTER if improved else Meaning.WORSE
    if excludes_zero:
        return Meaning.BETTER_UNCORRECTED if improved else Meaning.WORSE_UNCORRECTED
    return Meaning.NEUTRAL


class Tone(Frozen):
    """A text colour with the background that goes with it; both have WCAG AA contrast."""

    text: str = Field(description="Colour of text, marks and bars, on paper or on the tint.")
    tint: str = Field(description="Background of a cell, for this text colour or for ink.")


class Look(Frozen):
    """The colours of one theme. Blue is better, orange is worse, grey is neither."""

    paper: str = Field(description="Background.")
    ink: str = Field(description="Text.")
    faint: str = Field(description="Secondary text and axes.")
    grid: str = Field(description="Grid lines.")
    missing: str = Field(description="Cell without a measurement.")
    missing_mark: str = Field(description="Hatching of a cell without a measurement.")
    failed: str = Field(description="Cell whose measurement failed.")
    base: str = Field(description="Ring around the base.")
    selected: str = Field(description="Frame around the selected cell.")
    better: Tone = Field(description="Better than the base.")
    worse: Tone = Field(description="Worse than the base.")
    neutral: Tone = Field(description="No difference shown.")
    refused: Tone = Field(description="Not compared.")
    diverging: tuple[str, ...] = Field(
        description="Colours of a heatmap from worse to better; the one in the middle is the base."
    )
    ramp: tuple[str, ...] = Field(description="Colours from few to many added layers.")
    null: str = Field(description="Null levels.")

    def tone(self, meaning: Meaning) -> Tone:
        """The colours of a meaning. A difference that does not survive the correction has no tint."""
        match meaning:
            case Meaning.BETTER:
                return self.better
            case Meaning.WORSE:
                return self.worse
            case Meaning.BETTER_UNCORRECTED:
                return Tone(text=self.better.text, tint=self.paper)
            case Meaning.WORSE_UNCORRECTED:
                return Tone(text=self.worse.text, tint=self.paper)
            case Meaning.NEUTRAL:
                return Tone(text=self.neutral.text, tint=self.paper)
            case Meaning.REFUSED:
                return self.refused


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
        selected="#b3008f",
        better=Tone(text="#005ea8", tint="#d3e7fb"),
        worse=Tone(text="#a34300", tint="#ffe2c7"),
        neutral=Tone(text="#59636e", tint="#eceef0"),
        refused=Tone(text="#59636e", tint="#e3e6e9"),
        diverging=(
            "#7a3000", "#a84a00", "#d56f14", "#efa663", "#f9d7b5", "#f4f5f6",
            "#c6def3", "#88bce6", "#4592cf", "#0f6ab0", "#053f74",
        ),
        ramp=("#440154", "#414487", "#2a788e", "#22a884", "#7ad151"),
        null="#7d5900",
    ),
    Theme.DARK: Look(
        paper="#12161c",
        ink="#e8ecf1",
        faint="#9aa6b2",
        grid="#27303a",
        missing="#1c2229",
        missing_mark="#4a5562",
        failed="#6b7683",
        base="#ffffff",
        selected="#ff7be5",
        better=Tone(text="#74bdff", tint="#123c66"),
        worse=Tone(text="#ffa35c", tint="#5a3413"),
        neutral=Tone(text="#a5b0bb", tint="#2b323b"),
        refused=Tone(text="#a5b0bb", tint="#353d47"),
        diverging=(
            "#ffd3a6", "#ffad64", "#e58532", "#b05d14", "#6f4010", "#2b3138",
            "#174a78", "#1f6fb2", "#3d97df", "#7bbdf7", "#bfe0ff",
        ),
        ramp=("#4b6fb5", "#2a92a8", "#22b184", "#7ad151", "#fde725"),
        null="#f0b429",
    ),
}  # fmt: skip


def plotly_layout(
    theme: Theme, title: str, subtitle: str = "", *, warning: str | None = None, **more: Any
) -> dict[str, Any]:
    """The plotly layout that all charts share; the caller escapes foreign text in title and subtitle.

    A warning is drawn below the title in the colour of worse.
    """
    look = LOOKS[theme]
    below = f"<br><span style='font-size:13px;color:{look.faint}'>{subtitle}</span>" if subtitle else ""
    if warning:
        mark = f"<span style='font-size:13px;color:{look.worse.text}'><b>{warning}</b></span>"
        below = f"<br>{mark}{below}"
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
    """An empty matplotlib figure in the theme's colours; does not change global state."""
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
    """Style axes: no box, faint ticks."""
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


def headline(
    figure: Figure, theme: Theme, title: str, subtitle: str = "", *, warning: str | None = None
) -> None:
    """Draw title, warning and subtitle at the top, left-aligned and wrapped, without parsing mathematics."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    look, (width, height) = LOOKS[theme], figure.get_size_inches()
    titles = textwrap.wrap(title, int(width * 8.6)) or [""]
    lines = textwrap.wrap(subtitle, int(width * 14))
    at = height - 0.16
    for line, size, step, colour, weight in (
        *((line, 13.5, 0.28, look.ink, "bold") for line in titles),
        *(
            (line, 10, 0.22, look.worse.text, "bold")
            for line in textwrap.wrap(warning or "", int(width * 12))
        ),
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
    """Draw the base's ring with a halo."""
    look = LOOKS[theme]
    axes.scatter([x], [y], s=170, facecolors="none", edgecolors=look.paper, linewidths=5.5, zorder=4)
    axes.scatter(
        [x], [y], s=170, facecolors="none", edgecolors=look.base, linewidths=2.4, zorder=5, label="Base"
    )


def fonts() -> dict[str, Any]:
    """matplotlib settings for writing figures: first installed font, text as text in SVG."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": _FONTS,
        "svg.fonttype": "none",
        "svg.hashsalt": "mergeboard",
    }
