"""Chart of quality against added layers, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from orchestrator.charts.records import Measure, PointStatus, Scan, ScanPoint
from orchestrator.charts.theme import LOOKS, Theme, headline, new_figure, plotly_layout, ring

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

_LABELLED = 8


def pareto_front(points: Sequence[ScanPoint], measure: str) -> tuple[ScanPoint, ...]:
    """The points that are better than all points with at most as many layers, fewest layers first."""
    front: list[ScanPoint] = []
    for point in sorted(points, key=lambda p: (p.n_added, -p.values[measure], p.label)):
        if not front or point.values[measure] > front[-1].values[measure]:
            front.append(point)
    return tuple(front)


def _with_base(scan: Scan, measure: str) -> tuple[ScanPoint, ...]:
    base = ScanPoint(
        label="base",
        block=(0, 0),
        n_added=0,
        status=PointStatus.MEASURED,
        values={measure: scan.base[measure]},
    )
    return (base, *scan.measured(measure))


def _subtitle(scan: Scan, measure: Measure, front: Sequence[ScanPoint]) -> str:
    top = "" if measure.ceiling is None else f" · ceiling {measure.text(measure.ceiling)}"
    return f"{scan.title} · {len(front)} paths on the front{top} · picked on the search set: confirm before you believe"


def pareto(scan: Scan, measure: str, theme: Theme) -> go.Figure:
    """Interactive (plotly); a point's `customdata` is its path's label, for links."""
    import plotly.graph_objects as go

    look, quantity = LOOKS[theme], scan.measure(measure)
    points = scan.measured(measure)
    front = pareto_front(_with_base(scan, measure), measure)
    hover = (
        f"<b>%{{customdata}}</b><br>%{{x:+d}} layers<br>{escape(quantity.title)} %{{y:.4f}}<extra></extra>"
    )
    figure = go.Figure(
        go.Scatter(
            x=[p.n_added for p in points], y=[p.values[measure] for p in points], mode="markers", name="Layer paths",
            customdata=[escape(p.label) for p in points], hovertemplate=hover,
            marker={"size": 7, "color": look.neutral.text, "opacity": 0.6},
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[p.n_added for p in front], y=[p.values[measure] for p in front], mode="lines+markers", name="Pareto front",
            customdata=[escape(p.label) for p in front], hovertemplate=hover,
            line={"color": look.better.text, "width": 2, "shape": "hv"}, marker={"size": 9, "color": look.better.text},
        )
    )  # fmt: skip
    base = {
        "symbol": "circle-open",
        "size": 15,
        "color": look.base,
        "line": {"width": 2.5, "color": look.base},
    }
    figure.add_trace(
        go.Scatter(x=[0], y=[scan.base[measure]], mode="markers", marker=base, name="Base", hoverinfo="skip")
    )
    for null in quantity.nulls:
        figure.add_hline(
            y=null.value, line={"color": look.null, "width": 1.4, "dash": "dash"}, annotation_text=escape(null.name),
            annotation_font={"color": look.null, "size": 11}, annotation_position="top right",
        )  # fmt: skip
    figure.update_layout(
        plotly_layout(
            theme, escape(f"{quantity.title} against added layers"), escape(_subtitle(scan, quantity, front)), width=900, height=640,
            xaxis={"title": "Layers added"}, yaxis={"title": escape(quantity.title)},
        )
    )  # fmt: skip
    return figure


def pareto_image(scan: Scan, measure: str, theme: Theme) -> Figure:
    """The chart as a matplotlib figure."""
    look, quantity = LOOKS[theme], scan.measure(measure)
    points = scan.measured(measure)
    front = pareto_front(_with_base(scan, measure), measure)
    figure, axes = new_figure(theme, 8.8, 6)
    headline(figure, theme, f"{quantity.title} against added layers", _subtitle(scan, quantity, front))
    axes.grid(color=look.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.scatter(
        [p.n_added for p in points], [p.values[measure] for p in points], s=24, color=look.neutral.text, alpha=0.6, linewidths=0,
        label="Layer paths",
    )  # fmt: skip
    across, up = [p.n_added for p in front], [p.values[measure] for p in front]
    axes.step(
        across,
        up,
        where="post",
        color=look.better.text,
        linewidth=1.8,
        marker="o",
        markersize=6,
        label="Pareto front",
    )
    ring(axes, 0, scan.base[measure], theme)
    for point in front[-_LABELLED:]:
        if point.label != "base":
            axes.annotate(
                point.label, (point.n_added, point.values[measure]), (3, 5), textcoords="offset points", fontsize=9,
                color=look.ink, rotation=55, ha="left", va="bottom", rotation_mode="anchor", parse_math=False,
            )  # fmt: skip
    for null in quantity.nulls:
        axes.axhline(null.value, color=look.null, linewidth=1.2, linestyle="--", zorder=1)
        axes.text(
            0.995, null.value, null.name, ha="right", va="bottom", transform=axes.get_yaxis_transform(), fontsize=9,
            color=look.null, parse_math=False,
        )  # fmt: skip
    axes.margins(y=0.12)
    axes.set_xlabel("Layers added")
    axes.set_ylabel(quantity.title, parse_math=False)
    axes.legend(frameon=False, labelcolor=look.ink, loc="best")
    return figure
