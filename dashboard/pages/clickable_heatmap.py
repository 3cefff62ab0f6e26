"""The heatmap of layer paths with cells that can be clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.charts import ColourScale, Scan, ScanPoint, Theme, heatmap


def clickable_heatmap(
    scan: Scan, measure: str, theme: Theme, scale: ColourScale, selected: tuple[int, int] | None
) -> Any:
    """The heatmap with invisible markers over its cells, because heatmap cells cannot be selected."""
    import plotly.graph_objects as go

    figure = heatmap(scan, measure, theme, scale, selected=selected, titled=False)
    blocks = [p for p in scan.points if p.block is not None]
    figure.add_trace(
        go.Scatter(
            x=[p.block[1] for p in blocks if p.block],
            y=[p.block[0] for p in blocks if p.block],
            customdata=[p.label for p in blocks],
            mode="markers",
            marker={"symbol": "square", "size": max(4.0, 480 / (scan.n_layers + 1)), "opacity": 0.0},
            selected={"marker": {"opacity": 0.0}},
            unselected={"marker": {"opacity": 0.0}},
            # Points without hover cannot be clicked: the markers show the hover text of the cells.
            text=[_hover(scan, p, measure) for p in blocks],
            hovertemplate="<b>%{customdata}</b><br>%{text}<extra></extra>",
            showlegend=False,
        )
    )
    # The map is square: align it to the top of its container.
    return figure.update_yaxes(constraintoward="top")


def _hover(scan: Scan, point: ScanPoint, measure: str) -> str:
    if measure not in point.values:
        return point.reason or point.status.value
    shown = scan.measure(measure)
    text = f"{shown.text(point.values[measure])}, Δ {shown.text(scan.delta(point, measure), sign=True)}"
    if point.confirmed is None:
        return text
    return f"{text}<br>{point.confirmed.mark} confirmed {point.confirmed.value}"


def clicked_label(selected: Any) -> str | None:
    """The label of the path that was clicked."""
    points: Sequence[Any] = selected.selection.points
    for point in points:
        label = point.get("customdata")
        while isinstance(label, list) and label:
            label = label[0]
        if isinstance(label, str):
            return label
    return None
