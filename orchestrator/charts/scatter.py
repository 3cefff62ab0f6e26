"""Scatter chart of two measures of all layer paths, with the null levels of both."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from orchestrator.charts.records import Measure, Scan
from orchestrator.charts.theme import LOOKS, Theme, headline, new_figure, plotly_layout, ring

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

_ADDED = "layers added"


def scatter(scan: Scan, x: str, y: str, theme: Theme) -> go.Figure:
    """Interactive (plotly); a point's `customdata` is its path's label and added layers."""
    import plotly.graph_objects as go

    look, across, up = LOOKS[theme], scan.measure(x), scan.measure(y)
    points = scan.measured(x, y)
    figure = go.Figure(
        go.Scatter(
            x=[p.values[x] for p in points], y=[p.values[y] for p in points], mode="markers", name="Layer paths",
            customdata=[[escape(p.label), p.n_added] for p in points], showlegend=False,
            marker={
                "size": 8, "opacity": 0.85, "color": [p.n_added for p in points],
                "colorscale": [[n / (len(look.ramp) - 1), c] for n, c in enumerate(look.ramp)],
                "line": {"width": 0.6, "color": look.paper},
                "colorbar": {"title": {"text": _ADDED, "side": "right"}, "thickness": 12, "len": 0.7, "outlinewidth": 0},
            },
            hovertemplate="<b>%{customdata[0]}</b><br>"
            f"{escape(across.title)} %{{x:.4f}}<br>{escape(up.title)} %{{y:.4f}}<br>%{{customdata[1]:+d}} layers<extra></extra>",
        )
    )  # fmt: skip
    base = {
        "symbol": "circle-open",
        "size": 15,
        "color": look.base,
        "line": {"width": 2.5, "color": look.base},
    }
    figure.add_trace(go.Scatter(x=[scan.base[x]], y=[scan.base[y]], mode="markers", marker=base, name="Base"))
    for null in across.nulls:
        figure.add_vline(x=null.value, **_null_line(theme, f"{null.name}"), annotation_textangle=-90)
    for null in up.nulls:
        figure.add_hline(y=null.value, **_null_line(theme, f"{null.name}"))
    figure.update_layout(
        plotly_layout(
            theme, escape(f"{up.title} against {across.title}"), escape(_subtitle(scan, len(points), across, up)), width=860, height=680,
            warning=scan.warning, xaxis={"title": escape(across.title)}, yaxis={"title": escape(up.title)},
        )
    )  # fmt: skip
    return figure


def _subtitle(scan: Scan, count: int, across: Measure, up: Measure) -> str:
    tops = [f"{m.title} {m.text(m.ceiling)}" for m in (across, up) if m.ceiling is not None]
    parts = [f"{scan.title} · {count:,} layer paths · dashed: what knowing nothing gets"]
    return " · ".join([*parts, *([f"ceiling: {', '.join(tops)}"] if tops else [])])


def _null_line(theme: Theme, text: str) -> dict[str, Any]:
    look = LOOKS[theme]
    return {
        "line": {"color": look.null, "width": 1.4, "dash": "dash"},
        "annotation_text": escape(text),
        "annotation_font": {"color": look.null, "size": 11},
        "annotation_position": "top left",
    }


def scatter_image(scan: Scan, x: str, y: str, theme: Theme) -> Figure:
    """The chart as a matplotlib figure."""
    from matplotlib.colors import LinearSegmentedColormap

    look, across, up = LOOKS[theme], scan.measure(x), scan.measure(y)
    points = scan.measured(x, y)
    figure, axes = new_figure(theme, 8.4, 6.4)
    headline(
        figure,
        theme,
        f"{up.title} against {across.title}",
        _subtitle(scan, len(points), across, up),
        warning=scan.warning,
    )
    axes.grid(color=look.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    dots = axes.scatter(
        [p.values[x] for p in points], [p.values[y] for p in points], c=[p.n_added for p in points], s=34, alpha=0.9,
        cmap=LinearSegmentedColormap.from_list("added", look.ramp), edgecolors=look.paper, linewidths=0.5,
    )  # fmt: skip
    ring(axes, scan.base[x], scan.base[y], theme)
    _draw_nulls(axes, across, up, theme)
    bar = figure.colorbar(dots, ax=axes, shrink=0.7, aspect=32, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=look.faint, labelsize=9, length=3)
    bar.set_label(_ADDED, color=look.ink, fontsize=10)
    axes.set_xlabel(across.title, parse_math=False)
    axes.set_ylabel(up.title, parse_math=False)
    axes.legend(frameon=False, labelcolor=look.ink, loc="best")
    return figure


def _draw_nulls(axes: Any, across: Measure, up: Measure, theme: Theme) -> None:
    look = LOOKS[theme]
    style = {"color": look.null, "fontsize": 9, "parse_math": False}
    for null in across.nulls:
        axes.axvline(null.value, color=look.null, linewidth=1.2, linestyle="--", zorder=1)
        axes.text(
            null.value,
            0.995,
            f"{null.name} ",
            rotation=90,
            ha="right",
            va="top",
            transform=axes.get_xaxis_transform(),
            **style,
        )
    for null in up.nulls:
        axes.axhline(null.value, color=look.null, linewidth=1.2, linestyle="--", zorder=1)
        axes.text(
            0.995,
            null.value,
            null.name,
            ha="right",
            va="bottom",
            transform=axes.get_yaxis_transform(),
            **style,
        )
