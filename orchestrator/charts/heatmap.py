"""Heatmap of a layer scan: x is the end j, y the start i, downwards; blue is better, orange worse."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from orchestrator.charts.grid import ColourScale, HeatGrid, heat_grid
from orchestrator.charts.records import Measure, Scan, ScanPoint
from orchestrator.charts.theme import LOOKS, Meaning, Theme, headline, new_figure, plotly_layout

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

LEFT = "Left the race"
_HATCH, _LEFT_HATCH = "////", "\\\\"


def heatmap(
    scan: Scan,
    measure: str,
    theme: Theme,
    scale: ColourScale = ColourScale.OWN,
    *,
    selected: tuple[int, int] | None = None,
    titled: bool = True,
) -> go.Figure:
    """Interactive (plotly); a cell's `text` is its path's label and `customdata` its value.

    Confirmed cells are outlined, and the `selected` one has a frame. If not `titled`, title and warning are left to
    the page, and legend and colour bar lie above the map, which then fits the width of a phone.
    """
    import plotly.graph_objects as go

    grid, quantity, look = heat_grid(scan, measure, scale), scan.measure(measure), LOOKS[theme]
    figure = go.Figure()
    for cells, colour in ((grid.missing, look.missing), (grid.failed, look.failed)):
        if cells:
            figure.add_trace(_flat(cells, scan.n_layers, colour))
    if grid.left:
        figure.add_trace(_left(grid.left, scan.n_layers, look.missing))
    figure.add_trace(_cells(scan, quantity, grid, theme))
    size = max(3.0, min(14.0, 420 / (scan.n_layers + 1)))
    for mark in marks(grid, theme, selected):
        marker = {
            "symbol": mark.symbol,
            "size": size * mark.size,
            "color": mark.colour,
            "line": {"width": 2.5, "color": mark.colour},
        }
        x, y = [j for _, j in mark.cells], [i for i, _ in mark.cells]
        halo = {**marker, "color": look.paper, "line": {"width": 5.5, "color": look.paper}}
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="markers", marker=halo, hoverinfo="skip", showlegend=False)
        )
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="markers", name=escape(mark.name), marker=marker, hoverinfo="skip")
        )
    _key(figure, "Not measured", len(grid.missing), {"symbol": "square", "size": 11, "color": look.missing})
    if grid.left:
        line = {"symbol": "line-ne", "size": size * 0.7, "line": {"width": 1, "color": look.missing_mark}}
        x, y = [p.block[1] for p in grid.left if p.block], [p.block[0] for p in grid.left if p.block]
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="markers", marker=line, showlegend=False, hoverinfo="skip")
        )
        _key(figure, LEFT, len(grid.left), {**line, "size": 11})
    if grid.failed:
        cross = {
            "symbol": "x-thin",
            "size": size * 0.7,
            "color": look.paper,
            "line": {"width": 1.5, "color": look.paper},
        }
        figure.add_trace(
            go.Scatter(
                x=[j for _, j in grid.failed], y=[i for i, _ in grid.failed], mode="markers", marker=cross,
                showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    _key(figure, "Failed", len(grid.failed), {"symbol": "square-x", "size": 11, "color": look.failed})
    end = scan.n_layers + 0.5
    figure.update_layout(
        plotly_layout(
            theme, escape(title(scan, quantity)), escape(subtitle(scan, quantity, grid)),
            warning=scan.warning, width=820, height=860,
            xaxis={"title": "End j of the repeated block [i, j)", "range": [-0.7, end], "showgrid": False, "constrain": "domain"},
            yaxis={
                "title": "Start i", "range": [end, -0.7], "showgrid": False, "scaleanchor": "x", "constrain": "domain",
            },
        )
    )  # fmt: skip
    if not titled:
        bar = {
            "orientation": "h", "yref": "container", "y": 0.86, "yanchor": "top", "x": 0.5, "len": 1.0, "thickness": 10,
            "title": {"text": "difference to the base", "side": "top"},
        }  # fmt: skip
        figure.update_traces(colorbar=bar, selector={"type": "heatmap", "zmin": grid.low})
        legend = {
            "yref": "container", "y": 1.0, "yanchor": "top", "x": 0, "font": {"size": 11},
            "entrywidthmode": "fraction", "entrywidth": 0.5,
        }  # fmt: skip
        figure.update_layout(title=None, legend=legend, margin={"l": 55, "r": 10, "t": 160, "b": 50})
    return figure


class Mark(NamedTuple):
    """Cells with a mark of their own; `symbol` is plotly's name, `size` in widths of a cell."""

    name: str
    colour: str
    symbol: str
    size: float
    cells: tuple[tuple[int, int], ...]


def marks(grid: HeatGrid, theme: Theme, selected: tuple[int, int] | None) -> list[Mark]:
    """The marks of a heatmap, in the order of its legend: base, best, confirmed cells, selected cell."""
    look = LOOKS[theme]
    marks = [Mark("Base", look.base, "circle-open", 1.0, ((0, 0),))]
    if grid.best is not None and grid.best.block is not None:
        marks.append(Mark(f"Best: {grid.best.label}", look.base, "circle-open", 1.2, (grid.best.block,)))
    for meaning, name in ((Meaning.BETTER, "Confirmed better"), (Meaning.WORSE, "Confirmed worse")):
        cells = tuple(p.block for p in grid.outlined if p.confirmed is meaning and p.block is not None)
        if cells:
            text = f"{meaning.mark} {name} ({len(cells)})"
            marks.append(Mark(text, look.tone(meaning).text, "square-open", 1.25, cells))
    if selected is not None:
        marks.append(
            Mark(f"Selected: ({selected[0]}, {selected[1]})", look.selected, "diamond-open", 1.4, (selected,))
        )
    return marks


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


def _left(points: tuple[ScanPoint, ...], n_layers: int, colour: str) -> go.Heatmap:
    """The cells of paths that left a race; their early estimate is in the text alone."""
    import plotly.graph_objects as go

    flat = np.full((n_layers + 1, n_layers + 1), np.nan)
    labels = np.full(flat.shape, "", dtype=object)
    texts = np.full(flat.shape, "", dtype=object)
    for point in points:
        if point.block is not None:
            flat[point.block] = 1.0
            labels[point.block], texts[point.block] = escape(point.label), escape(point.reason or "")
    return go.Heatmap(
        z=flat, colorscale=[[0, colour], [1, colour]], showscale=False, xgap=1, ygap=1, text=labels, customdata=texts, hoverongaps=False,
        hovertemplate="<b>%{text}</b><br>%{customdata}<extra></extra>",
    )  # fmt: skip


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


def heatmap_image(
    scan: Scan,
    measure: str,
    theme: Theme,
    scale: ColourScale = ColourScale.OWN,
    *,
    selected: tuple[int, int] | None = None,
) -> Figure:
    """The heatmap as a matplotlib figure, with the marks and the colour limits of the interactive one."""
    grid, quantity = heat_grid(scan, measure, scale), scan.measure(measure)
    figure, axes = new_figure(theme, 8.6, 8.2)
    headline(figure, theme, title(scan, quantity), subtitle(scan, quantity, grid), warning=scan.warning)
    _draw_cells(figure, axes, scan, quantity, grid, theme)
    _draw_marks(axes, grid, theme, scan.n_layers, selected)
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


def _draw_marks(
    axes: Axes, grid: HeatGrid, theme: Theme, n_layers: int, selected: tuple[int, int] | None
) -> None:
    from matplotlib.patches import Patch, Rectangle

    look = LOOKS[theme]
    keys: list[Any] = []
    left = [point.block for point in grid.left if point.block is not None]
    for cells, hatch in ((grid.missing, _HATCH), (left, _LEFT_HATCH)):
        for i, j in cells:
            axes.add_patch(
                Rectangle(
                    (j - 0.46, i - 0.46),
                    0.92,
                    0.92,
                    facecolor=look.missing,
                    hatch=hatch,
                    edgecolor=look.missing_mark,
                    linewidth=0,
                )
            )
    for i, j in grid.failed:
        axes.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, facecolor=look.failed, linewidth=0))
    if grid.failed:
        rows, columns = zip(*grid.failed, strict=True)
        axes.scatter(columns, rows, marker="x", s=(110 / n_layers) ** 2, c=look.paper, linewidths=1.2)
    for mark in marks(grid, theme, selected):
        for i, j in mark.cells:
            axes.add_patch(_outline(mark, i, j, max(0.6, n_layers / 45), look.paper))
        keys.append(_key_of(mark))
    for name, count, hatch in (
        ("Not measured", len(grid.missing), _HATCH),
        (LEFT, len(left), _LEFT_HATCH),
    ):
        if count:
            keys.append(
                Patch(
                    facecolor=look.missing,
                    hatch=hatch,
                    edgecolor=look.missing_mark,
                    linewidth=0,
                    label=f"{name} ({count})",
                )
            )
    if grid.failed:
        keys.append(Patch(facecolor=look.failed, linewidth=0, label=f"Failed ({len(grid.failed)})"))
    axes.legend(
        handles=keys, loc="lower left", frameon=False, labelcolor=look.ink, fontsize=10, handlelength=1.4,
        bbox_to_anchor=(0.02, 0.03),
    )  # fmt: skip


_SHAPES = {"circle-open": "o", "square-open": "s", "diamond-open": "D"}


def _outline(mark: Mark, i: int, j: int, radius: float, paper: str) -> Patch:
    """A mark around cell (i, j), with a halo: circle, square or diamond."""
    from matplotlib.patches import Circle, RegularPolygon
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=4.5, foreground=paper)]
    style: dict[str, Any] = {
        "fill": False, "color": mark.colour, "linewidth": 2.2, "zorder": 4, "path_effects": halo,
    }  # fmt: skip
    if mark.symbol == "circle-open":
        return Circle((j, i), radius * mark.size, **style)
    turn = math.pi / 4 if mark.symbol == "square-open" else 0.0
    return RegularPolygon((j, i), 4, radius=radius * mark.size * 1.1, orientation=turn, **style)


def _key_of(mark: Mark) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=0, marker=_SHAPES[mark.symbol], markersize=10, markerfacecolor="none",
                  markeredgecolor=mark.colour, markeredgewidth=2.2, label=mark.name.replace("$", r"\$"))  # fmt: skip
