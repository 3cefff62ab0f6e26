"""Heatmap of a layer scan: x is the end j, y the start i, downwards; blue is better, orange worse."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.charts.grid import ColourScale, HeatGrid, heat_grid
from orchestrator.charts.records import Measure, Scan
from orchestrator.charts.theme import LOOKS, Theme, headline, new_figure, plotly_layout

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def heatmap(scan: Scan, measure: str, theme: Theme, scale: ColourScale = ColourScale.OWN) -> go.Figure:
    """Interactive (plotly); a cell's `text` is its path's label and `customdata` its value."""
    import plotly.graph_objects as go

    grid, quantity, look = heat_grid(scan, measure, scale), scan.measure(measure), LOOKS[theme]
    figure = go.Figure()
    for cells, colour in ((grid.missing, look.missing), (grid.failed, look.failed)):
        if cells:
            figure.add_trace(_flat(cells, scan.n_layers, colour))
    figure.add_trace(_cells(scan, quantity, grid, theme))
    size = max(3.0, min(14.0, 420 / (scan.n_layers + 1)))
    rings = [("Base", look.base, (0, 0), size)]
    if grid.best is not None and grid.best.block is not None:
        rings.append((f"Best: {grid.best.label}", look.base, grid.best.block, size + 3))
    for name, colour, (i, j), width in rings:
        ring = {
            "symbol": "circle-open",
            "size": width,
            "color": colour,
            "line": {"width": 2.5, "color": colour},
        }
        figure.add_trace(
            go.Scatter(x=[j], y=[i], mode="markers", name=escape(name), marker=ring, hoverinfo="skip")
        )
    _key(figure, "Not measured", len(grid.missing), {"symbol": "square", "size": 11, "color": look.missing})
    if grid.failed:
        mark = {
            "symbol": "x-thin",
            "size": size * 0.7,
            "color": look.paper,
            "line": {"width": 1.5, "color": look.paper},
        }
        figure.add_trace(
            go.Scatter(
                x=[j for _, j in grid.failed], y=[i for i, _ in grid.failed], mode="markers", marker=mark,
                showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    _key(figure, "Failed", len(grid.failed), {"symbol": "square-x", "size": 11, "color": look.failed})
    end = scan.n_layers + 0.5
    figure.update_layout(
        plotly_layout(
            theme, escape(title(scan, quantity)), escape(subtitle(scan, quantity, grid)),
            width=820, height=860,
            xaxis={"title": "End j of the repeated block [i, j)", "range": [-0.7, end], "showgrid": False, "constrain": "domain"},
            yaxis={
                "title": "Start i", "range": [end, -0.7], "showgrid": False, "scaleanchor": "x", "constrain": "domain",
            },
        )
    )  # fmt: skip
    return figure


def title(scan: Scan, measure: Measure) -> str:
    """The title: measure and scan."""
    return f"{measure.title} · {scan.title}"


def subtitle(scan: Scan, measure: Measure, grid: HeatGrid) -> str:
    """The subtitle: base, best value, null levels, ceiling and number of clipped cells."""
    base = scan.base[measure.name]
    parts = [f"base {measure.text(base)}"]
    if grid.best is not None:
        parts.append(f"best {measure.text(grid.best.values[measure.name])} at {grid.best.label}")
    parts += [f"{null.name} {measure.text(null.value)}" for null in measure.nulls]
    if measure.ceiling is not None:
        parts.append(f"ceiling {measure.text(measure.ceiling)}")
    if grid.clipped:
        parts.append(f"{grid.clipped} cells below the scale")
    return " · ".join(parts)


def _flat(cells: tuple[tuple[int, int], ...], n_layers: int, colour: str) -> go.Heatmap:
    import plotly.graph_objects as go

    flat = np.full((n_layers + 1, n_layers + 1), np.nan)
    for i, j in cells:
        flat[i, j] = 1.0
    return go.Heatmap(
        z=flat, colorscale=[[0, colour], [1, colour]], showscale=False, hoverinfo="skip", xgap=1, ygap=1
    )


def _cells(scan: Scan, measure: Measure, grid: HeatGrid, theme: Theme) -> go.Heatmap:
    import plotly.graph_objects as go

    look = LOOKS[theme]
    labels = np.full(grid.deltas.shape, "", dtype=object)
    values = np.full(grid.deltas.shape, "", dtype=object)
    labels[0, 0], values[0, 0] = "base", measure.text(scan.base[measure.name])
    for point in scan.measured(measure.name):
        if point.block is not None:
            labels[point.block], values[point.block] = (
                escape(point.label),
                measure.text(point.values[measure.name]),
            )
    middle = -grid.low / (grid.high - grid.low)
    ticks, texts = _ticks(scan, measure, grid)
    return go.Heatmap(
        z=grid.deltas, zmin=grid.low, zmax=grid.high, colorscale=_plotly_scale(look.diverging, middle), xgap=1, ygap=1,
        text=labels, customdata=values, hoverongaps=False,
        hovertemplate="<b>%{text}</b><br>value %{customdata}<br>difference %{z:+.4f}<extra></extra>",
        colorbar={
            "title": {"text": "difference<br>to the base", "side": "top"}, "thickness": 14, "len": 0.8, "outlinewidth": 0,
            "tickvals": ticks, "ticktext": texts, "tickcolor": look.faint,
        },
    )  # fmt: skip


def _plotly_scale(diverging: tuple[str, ...], middle: float) -> list[list[Any]]:
    """The diverging colours with the middle colour at 0."""
    half = len(diverging) // 2
    lower = [[middle * n / half, diverging[n]] for n in range(half)]
    upper = [[middle + (1 - middle) * n / half, diverging[half + n]] for n in range(half + 1)]
    return lower + upper


def _ticks(scan: Scan, measure: Measure, grid: HeatGrid) -> tuple[list[float], list[str]]:
    """Positions and texts at both limits, their halves, the base, and the null levels within the limits."""
    marks = {grid.low: "", grid.low / 2: "", 0.0: " base", grid.high / 2: "", grid.high: ""}
    for null in measure.nulls:
        at = null.value - scan.base[measure.name]
        if grid.low <= at <= grid.high:
            marks = {k: v for k, v in marks.items() if abs(k - at) > 0.04 * (grid.high - grid.low) or v}
            marks[at] = f" {null.name}"
    ticks = sorted(marks)
    below = "≤ " if grid.clipped else ""
    texts = [
        (below if t == grid.low else "") + (measure.text(t, sign=True) if t else "0") + marks[t]
        for t in ticks
    ]
    return ticks, texts


def _key(figure: go.Figure, name: str, count: int, marker: dict[str, Any]) -> None:
    """Add a legend entry without data points."""
    import plotly.graph_objects as go

    if count:
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{name} ({count})")
        )


# --- as an image ----------------------------------------------------------------------------------------------------


def heatmap_image(scan: Scan, measure: str, theme: Theme, scale: ColourScale = ColourScale.OWN) -> Figure:
    """The heatmap as a matplotlib figure."""
    grid, quantity = heat_grid(scan, measure, scale), scan.measure(measure)
    figure, axes = new_figure(theme, 8.6, 8.2)
    headline(figure, theme, title(scan, quantity), subtitle(scan, quantity, grid))
    _draw_cells(figure, axes, scan, quantity, grid, theme)
    _draw_marks(axes, grid, theme, scan.n_layers)
    axes.set_xlabel("End j of the repeated block [i, j)")
    axes.set_ylabel("Start i")
    return figure


def _draw_cells(
    figure: Figure, axes: Axes, scan: Scan, measure: Measure, grid: HeatGrid, theme: Theme
) -> None:
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    look = LOOKS[theme]
    norm = TwoSlopeNorm(vmin=grid.low, vcenter=0.0, vmax=grid.high)
    colours = LinearSegmentedColormap.from_list("diverging", look.diverging)
    edges = np.arange(scan.n_layers + 2) - 0.5
    mesh = axes.pcolormesh(
        edges, edges, grid.deltas, cmap=colours, norm=norm,
        edgecolors=look.paper, linewidth=min(0.8, 16 / scan.n_layers),
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.set_xlim(-0.9, scan.n_layers + 0.5)
    axes.set_ylim(scan.n_layers + 0.5, -0.9)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.72, aspect=34, pad=0.02, spacing="proportional")
    bar.outline.set_visible(False)
    ticks, texts = _ticks(scan, measure, grid)
    bar.set_ticks(ticks, labels=texts)
    bar.ax.tick_params(colors=look.faint, labelsize=9, length=3)
    bar.set_label("difference to the base", color=look.ink, fontsize=10)


def _draw_marks(axes: Axes, grid: HeatGrid, theme: Theme, n_layers: int) -> None:
    from matplotlib.patches import Circle, Patch, Rectangle

    look = LOOKS[theme]
    keys: list[Any] = []
    for i, j in grid.missing:
        axes.add_patch(
            Rectangle(
                (j - 0.46, i - 0.46),
                0.92,
                0.92,
                facecolor=look.missing,
                hatch="////",
                edgecolor=look.missing_mark,
                linewidth=0,
            )
        )
    for i, j in grid.failed:
        axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, facecolor=look.failed, linewidth=0))
    if grid.failed:
        rows, columns = zip(*grid.failed, strict=True)
        axes.scatter(columns, rows, marker="x", s=(110 / n_layers) ** 2, c=look.paper, linewidths=1.2)
    radius = max(0.75, n_layers / 45)
    axes.add_patch(Circle((0, 0), radius, fill=False, color=look.base, linewidth=2))
    keys.append(_ring("Base", look.base))
    if grid.best is not None and grid.best.block is not None:
        i, j = grid.best.block
        axes.add_patch(Circle((j, i), radius * 1.15, fill=False, color=look.base, linewidth=2.4))
        keys.append(_ring(f"Best: {grid.best.label}".replace("$", r"\$"), look.base))
    if grid.missing:
        keys.append(
            Patch(
                facecolor=look.missing,
                hatch="////",
                edgecolor=look.missing_mark,
                linewidth=0,
                label=f"Not measured ({len(grid.missing)})",
            )
        )
    if grid.failed:
        keys.append(Patch(facecolor=look.failed, linewidth=0, label=f"Failed ({len(grid.failed)})"))
    axes.legend(
        handles=keys, loc="lower left", frameon=False, labelcolor=look.ink, fontsize=10, handlelength=1.4,
        bbox_to_anchor=(0.02, 0.03),
    )  # fmt: skip


def _ring(name: str, colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=0, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=colour,
                  markeredgewidth=2.2, label=name)  # fmt: skip
