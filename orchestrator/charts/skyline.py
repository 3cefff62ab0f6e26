"""Skyline charts: mean difference to the base over all blocks that start, or end, at each layer."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.charts.grid import heat_grid
from orchestrator.charts.records import Measure, Scan
from orchestrator.charts.theme import LOOKS, Theme, headline, new_figure, plotly_layout, style_axes

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

_TITLES = ("Mean over blocks that start at i", "Mean over blocks that end at j")


class Skyline(NamedTuple):
    """Means over the rows or columns of a heatmap grid."""

    title: str
    positions: NDArray[np.int64]
    means: NDArray[np.float64]
    counts: NDArray[np.int64]


def skylines(scan: Scan, measure: str) -> tuple[Skyline, Skyline]:
    """Row means (by start) and column means (by end), without the base and layers without measured blocks."""
    deltas = heat_grid(scan, measure).deltas.copy()
    deltas[0, 0] = np.nan
    lines = []
    for axis, title in ((1, _TITLES[0]), (0, _TITLES[1])):
        counts = np.sum(~np.isnan(deltas), axis=axis)
        positions = np.flatnonzero(counts)
        means = np.nansum(deltas, axis=axis)[positions] / counts[positions]
        lines.append(Skyline(title, positions, means, counts[positions]))
    return lines[0], lines[1]


def _subtitle(scan: Scan, measure: Measure) -> str:
    base = scan.base[measure.name]
    nulls = [f"{null.name} {measure.text(null.value - base, sign=True)}" for null in measure.nulls]
    top = [] if measure.ceiling is None else [f"ceiling {measure.text(measure.ceiling - base, sign=True)}"]
    return " · ".join([f"difference to the base, {measure.text(base)}", *nulls, *top])


def skyline(scan: Scan, measure: str, theme: Theme) -> go.Figure:
    """Interactive (plotly), one skyline below the other."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    quantity, look = scan.measure(measure), LOOKS[theme]
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=0.12, subplot_titles=_TITLES
    )
    for row, line in enumerate(skylines(scan, measure), start=1):
        colours = [look.better.text if m > 0 else look.worse.text for m in line.means]
        figure.add_trace(
            go.Bar(
                x=line.positions, y=line.means, marker={"color": colours}, customdata=line.counts, showlegend=False,
                hovertemplate="layer %{x}<br>mean difference %{y:+.4f}<br>%{customdata} blocks<extra></extra>",
            ),
            row=row, col=1,
        )  # fmt: skip
        figure.add_hline(y=0, line={"color": look.faint, "width": 1}, row=row, col=1)
    layout = plotly_layout(
        theme, escape(f"Skylines · {quantity.title} · {scan.title}"), escape(_subtitle(scan, quantity)), width=900, height=620,
        bargap=0.15,
    )  # fmt: skip
    layout |= {"xaxis2": {**layout["xaxis"], "title": "Layer"}, "yaxis2": dict(layout["yaxis"])}
    figure.update_layout(layout)
    figure.update_annotations(font={"size": 13, "color": look.faint}, x=0, xanchor="left")
    return figure


def skyline_image(scan: Scan, measure: str, theme: Theme) -> Figure:
    """The chart as a matplotlib figure."""
    quantity, look = scan.measure(measure), LOOKS[theme]
    figure, upper = new_figure(theme, 9, 5.6)
    figure.clear()
    upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, line in zip((upper, lower), skylines(scan, measure), strict=True):
        style_axes(axes, theme)
        axes.bar(
            line.positions,
            line.means,
            width=0.82,
            color=[look.better.text if m > 0 else look.worse.text for m in line.means],
        )
        axes.axhline(0, color=look.faint, linewidth=0.8)
        axes.grid(axis="y", color=look.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.text(0.0, 1.02, line.title, transform=axes.transAxes, fontsize=10, color=look.faint, va="bottom")
    lower.set_xlabel("Layer")
    lower.set_xlim(-0.8, scan.n_layers + 0.8)
    headline(figure, theme, f"Skylines · {quantity.title} · {scan.title}", _subtitle(scan, quantity))
    return figure
