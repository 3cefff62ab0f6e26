"""Figures as files: PNG and SVG from matplotlib, stand-alone HTML from plotly. The same figure gives the same bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.charts.records import ChartError
from orchestrator.charts.theme import fonts

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

DPI = 150


def image_bytes(figure: Figure, kind: str = "png") -> bytes:
    """The figure as `png` or `svg`."""
    import matplotlib

    if kind not in ("png", "svg"):
        raise ChartError(f"A figure can be written as png or svg, not as {kind!r}: choose one of them.")
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context(fonts()):
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    return buffer.getvalue()


def write_image(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG; the suffix says which."""
    data = image_bytes(figure, path.suffix.removeprefix(".").lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_html(figure: go.Figure, path: Path) -> Path:
    """Write a page that needs no network: plotly's script is inside."""
    text = figure.to_html(
        include_plotlyjs=True, full_html=True, div_id="chart", config={"displaylogo": False}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
