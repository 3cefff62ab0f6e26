"""Chart of candidate minus base per benchmark with intervals; markers by meaning, filled if significant."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.charts.records import ChartError, DeltaBar
from orchestrator.charts.theme import LOOKS, Look, Meaning, Theme, headline, new_figure, plotly_layout

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AXIS = "Candidate minus base, points (bar: 95 % interval)"


class _Key(NamedTuple):
    """Legend entry of a meaning, with its markers in plotly and matplotlib."""

    name: str
    symbol: str
    marker: str


_KEYS = {
    Meaning.BETTER: _Key("Better", "triangle-up", "^"),
    Meaning.WORSE: _Key("Worse", "triangle-down", "v"),
    Meaning.BETTER_UNCORRECTED: _Key("Better before correction only", "triangle-up-open", "^"),
    Meaning.WORSE_UNCORRECTED: _Key("Worse before correction only", "triangle-down-open", "v"),
    Meaning.NEUTRAL: _Key("No difference shown", "circle-open", "o"),
}
_FILLED = (Meaning.BETTER, Meaning.WORSE)


def _comparable(bars: Sequence[DeltaBar]) -> list[DeltaBar]:
    if not bars:
        raise ChartError("There is no benchmark to draw: evaluate both checkpoints on the same suite first.")
    return [bar for bar in bars if bar.incomparable is None]


def delta_bars(bars: Sequence[DeltaBar], title: str, theme: Theme, subtitle: str = "") -> go.Figure:
    """Interactive (plotly). Significance is shown redundantly by colour, marker shape and filling."""
    import plotly.graph_objects as go

    look, names, figure = LOOKS[theme], [escape(bar.benchmark) for bar in bars], go.Figure()
    for meaning, key in _KEYS.items():
        group, colour = [bar for bar in _comparable(bars) if bar.meaning is meaning], look.tone(meaning).text
        if not group:
            continue
        figure.add_trace(
            go.Scatter(
                x=[b.delta_points for b in group], y=[escape(b.benchmark) for b in group], mode="markers", name=key.name,
                marker={"symbol": key.symbol, "size": 13, "color": colour, "line": {"width": 2, "color": colour}},
                error_x={
                    "type": "data", "symmetric": False, "thickness": 2.4, "width": 5, "color": colour,
                    "array": [b.high - b.delta_points for b in group], "arrayminus": [b.delta_points - b.low for b in group],
                },
                customdata=[[b.low, b.high] for b in group],
                hovertemplate="<b>%{y}</b><br>%{x:+.2f} points<br>%{customdata[0]:+.2f} to %{customdata[1]:+.2f}<extra></extra>",
            )
        )  # fmt: skip
    for bar in bars:
        if bar.incomparable is not None:
            figure.add_annotation(
                x=0, y=escape(bar.benchmark), text=f"not comparable: {escape(bar.incomparable)}", showarrow=False, xanchor="left",
                font={"color": look.faint, "size": 12},
            )  # fmt: skip
    figure.add_vline(x=0, line={"color": look.faint, "width": 1.2})
    figure.update_layout(
        plotly_layout(
            theme, escape(title), escape(subtitle), width=860, height=200 + 52 * len(bars),
            xaxis={"title": _AXIS}, yaxis={"categoryorder": "array", "categoryarray": names[::-1], "showgrid": False},
        )
    )  # fmt: skip
    figure.update_layout(margin={"l": 130, "b": 90}, legend={"y": -0.26 if len(bars) < 8 else -0.16})
    return figure


def delta_bars_image(bars: Sequence[DeltaBar], title: str, theme: Theme, subtitle: str = "") -> Figure:
    """The chart as a matplotlib figure."""
    look, comparable = LOOKS[theme], _comparable(bars)
    figure, axes = new_figure(theme, 8.6, 1.9 + 0.46 * len(bars))
    headline(figure, theme, title, subtitle)
    places = {bar.benchmark: len(bars) - 1 - n for n, bar in enumerate(bars)}
    axes.grid(axis="x", color=look.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axvline(0, color=look.faint, linewidth=1)
    for bar in comparable:
        _draw_bar(axes, bar, places[bar.benchmark], look)
    for bar in bars:
        if bar.incomparable is not None:
            axes.text(
                0.01, places[bar.benchmark], textwrap.shorten(f"not comparable: {bar.incomparable}", 64, placeholder=" ..."),
                color=look.faint, fontsize=9.5, va="center", parse_math=False, transform=axes.get_yaxis_transform(), clip_on=True,
            )  # fmt: skip
    axes.set_yticks(list(places.values()), labels=list(places), parse_math=False)
    axes.tick_params(axis="y", colors=look.ink, length=0, labelsize=10.5)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    axes.set_xlabel(_AXIS)
    _draw_key(figure, comparable, look)
    return figure


def _draw_bar(axes: Axes, bar: DeltaBar, place: int, look: Look) -> None:
    key, filled = _KEYS[bar.meaning], bar.meaning in _FILLED
    colour = look.tone(bar.meaning).text
    axes.errorbar(
        bar.delta_points, place, xerr=[[bar.delta_points - bar.low], [bar.high - bar.delta_points]], fmt=key.marker,
        color=colour, markerfacecolor=colour if filled else look.paper, markersize=9, markeredgewidth=1.8, linewidth=2.2,
        capsize=3.5,
    )  # fmt: skip
    text = f"{bar.delta_points:+z.1f}".replace("-", "\N{MINUS SIGN}")
    axes.annotate(
        text, (bar.delta_points, place), (0, 8), textcoords="offset points", ha="center", fontsize=9.5,
        color=look.ink, fontweight="bold" if filled else "normal",
    )  # fmt: skip


def _draw_key(figure: Figure, bars: Sequence[DeltaBar], look: Look) -> None:
    from matplotlib.lines import Line2D

    used = {bar.meaning for bar in bars}
    handles: list[Any] = [
        Line2D([], [], marker=key.marker, color=look.tone(meaning).text, linewidth=0, markersize=8, label=key.name,
               markerfacecolor=look.tone(meaning).text if meaning in _FILLED else look.paper, markeredgewidth=1.8)
        for meaning, key in _KEYS.items()
        if meaning in used
    ]  # fmt: skip
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=3,
            frameon=False,
            labelcolor=look.ink,
            fontsize=9.5,
        )
