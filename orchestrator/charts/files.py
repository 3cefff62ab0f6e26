"""Write figures: PNG and SVG from matplotlib, stand-alone HTML from plotly. The output is reproducible."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.charts.records import ChartError
from orchestrator.charts.theme import FONT, fonts

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

DPI = 150

Picture = tuple[str, "Callable[[], Figure]", "Callable[[], go.Figure]"]
"""A chart's name with functions that draw it as an image and as an interactive figure."""


def image_bytes(figure: Figure, kind: str = "png") -> bytes:
    """The figure as `png` or `svg` bytes."""
    import matplotlib

    if kind not in ("png", "svg"):
        raise ChartError(f"A figure can be written as png or svg, not as {kind!r}: choose one of them.")
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context(fonts()):
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    return buffer.getvalue()


def write_image(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG, by the suffix of the path."""
    data = image_bytes(figure, path.suffix.removeprefix(".").lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_html(figure: go.Figure, path: Path) -> Path:
    """Write a stand-alone page that includes plotly's script."""
    text = figure.to_html(
        include_plotlyjs=True, full_html=True, div_id="chart", config={"displaylogo": False}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:{font};margin:2em auto;max-width:1100px;padding:0 1em;color:#1b1f24}}
pre{{overflow-x:auto;background:#f6f8fa;padding:1em;font-size:12px;line-height:1.35}}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def write_page(title: str, texts: Sequence[str], figures: Sequence[go.Figure], path: Path) -> Path:
    """Write a stand-alone page with plain texts above interactive figures."""
    parts = [f"<pre>{escape(text)}</pre>" for text in texts]
    for number, figure in enumerate(figures):
        parts.append(
            figure.to_html(
                include_plotlyjs=number == 0,
                full_html=False,
                div_id=f"chart-{number}",
                config={"displaylogo": False},
            )
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PAGE.format(title=escape(title), font=FONT, body="\n".join(parts)), encoding="utf-8")
    return path
