"""Interactive pictures of a merge search: best against cost, parameters against value, importance, Pareto front, gradients."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from orchestrator.charts.merge_data import (
    SEARCH_WARNING,
    front,
    front_text,
    gradient_label,
    gradient_lines,
    importances,
    levels,
    parameter_label,
    progress_lines,
    slices,
)
from orchestrator.charts.theme import LOOKS, Look, Theme, plotly_layout
from orchestrator.store.merge_report import SearchView
from orchestrator.store.trial_records import Arm

if TYPE_CHECKING:
    import plotly.graph_objects as go

DASHES = {Arm.SEARCH: "solid", Arm.RANDOM: "dot", Arm.GRID: "dash"}
SYMBOLS = {Arm.SEARCH: "circle", Arm.RANDOM: "diamond", Arm.GRID: "square"}


def arm_colour(arm: Arm, look: Look) -> str:
    """Colour of a method."""
    return {Arm.SEARCH: look.better.text, Arm.RANDOM: look.neutral.text, Arm.GRID: look.worse.text}[arm]


def arm_title(arm: Arm, view: SearchView) -> str:
    """A method's name in a legend."""
    return f"search ({view.report.sampler})" if arm is Arm.SEARCH else str(arm)


def _layout(view: SearchView, theme: Theme, title: str, subtitle: str, **more: Any) -> dict[str, Any]:
    return plotly_layout(
        theme,
        escape(f"{title} · {view.report.name}"),
        escape(subtitle),
        warning=SEARCH_WARNING,
        width=900,
        **more,
    )


def progress(view: SearchView, theme: Theme) -> go.Figure:
    """The best value so far against seconds, one line per method, with the references' values."""
    import plotly.graph_objects as go

    look, figure = LOOKS[theme], go.Figure()
    for line in progress_lines(view):
        figure.add_trace(
            go.Scatter(
                x=line.costs_s, y=line.best, mode="lines+markers", name=escape(arm_title(line.arm, view)), customdata=line.trials,
                line={"shape": "hv", "width": 2, "dash": DASHES[line.arm], "color": arm_colour(line.arm, look)},
                marker={"size": 4}, hovertemplate="trial %{customdata}<br>%{x:.0f} s<br>best %{y:.4f}<extra></extra>",
            )
        )  # fmt: skip
    for level in levels(view):
        figure.add_hline(
            y=level.value, line={"color": look.null, "width": 1.2, "dash": "dash"}, annotation_text=escape(level.name),
            annotation_font={"color": look.null, "size": 11}, annotation_position="top right",
        )  # fmt: skip
    figure.update_layout(
        _layout(view, theme, "Best merge so far", "weighted mean of the objectives, fraction of 1", height=520,
                xaxis={"title": "Seconds of builds and evaluations"}, yaxis={"title": "Best value"})
    )  # fmt: skip
    return figure


def parameter_slices(view: SearchView, theme: Theme) -> go.Figure:
    """Value of every trial against each parameter; darker points came later."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    look, parts = LOOKS[theme], slices(view)
    columns = min(3, len(parts))
    rows = math.ceil(len(parts) / columns)
    titles = [
        escape(parameter_label(view, p.parameter.name)) + ("" if p.share is None else f" · {p.share:.0%}")
        for p in parts
    ]
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.4 / rows
    )
    for number, part in enumerate(parts):
        row, column = number // columns + 1, number % columns + 1
        figure.add_trace(
            go.Scatter(
                x=part.x, y=part.y, mode="markers", showlegend=False, customdata=part.trials,
                marker={"size": 6, "color": part.trials, "colorscale": [[0, look.grid], [1, look.better.text]]},
                hovertemplate="trial %{customdata}<br>%{x}<br>%{y:.4f}<extra></extra>",
            ),
            row=row, col=column,
        )  # fmt: skip
        if part.parameter.log:
            figure.update_xaxes(type="log", row=row, col=column)
    figure.update_layout(
        _layout(view, theme, "Parameters against value", "one point a merge, later ones darker; share of the variance (fANOVA)",
                height=180 + 240 * rows)
    )  # fmt: skip
    figure.update_annotations(font={"size": 12, "color": look.faint})
    return figure


def importance(view: SearchView, theme: Theme) -> go.Figure:
    """Share of the values' variance that each parameter explains."""
    import plotly.graph_objects as go

    look, shares = LOOKS[theme], importances(view)
    figure = go.Figure(
        go.Bar(
            x=[share for _, share in shares], y=[escape(parameter_label(view, name)) for name, _ in shares], orientation="h",
            marker={"color": look.better.text}, hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        _layout(view, theme, "Which parameter matters", "share of the values' variance by fANOVA", height=220 + 28 * len(shares),
                xaxis={"title": "Share of the variance", "tickformat": ".0%"}, margin={"l": 240})
    )  # fmt: skip
    return figure


def objectives_front(view: SearchView, theme: Theme) -> go.Figure:
    """The first two objectives of every merge, with the Pareto front and the references."""
    import plotly.graph_objects as go

    look, (complete, best) = LOOKS[theme], front(view)
    first, second = (objective.name for objective in view.report.objectives[:2])
    figure = go.Figure()
    for arm in Arm:
        trials = [trial for trial in complete if trial.arm is arm]
        if trials:
            figure.add_trace(
                go.Scatter(
                    x=[(t.objectives or (0.0,))[0] for t in trials], y=[(t.objectives or (0.0, 0.0))[1] for t in trials],
                    mode="markers", name=escape(arm_title(arm, view)), customdata=[t.number for t in trials],
                    marker={"size": 7, "symbol": SYMBOLS[arm], "color": arm_colour(arm, look), "opacity": 0.65},
                    hovertemplate="trial %{customdata}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
                )
            )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[(t.objectives or (0.0,))[0] for t in best], y=[(t.objectives or (0.0, 0.0))[1] for t in best], mode="lines",
            name="Pareto front", line={"color": look.better.text, "width": 2, "shape": "vh"}, hoverinfo="skip",
        )
    )  # fmt: skip
    references = [r for r in view.report.references if r.objectives is not None]
    figure.add_trace(
        go.Scatter(
            x=[(r.objectives or (0.0,))[0] for r in references], y=[(r.objectives or (0.0, 0.0))[1] for r in references],
            text=[escape(r.name) for r in references], mode="markers+text", textposition="top center", name="base, parents, average",
            marker={"size": 13, "symbol": "circle-open", "color": look.base, "line": {"width": 2.5}},
            hovertemplate="%{text}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        _layout(view, theme, "Objectives", f"{front_text(best)} of the first two objectives", height=600,
                xaxis={"title": escape(first)}, yaxis={"title": escape(second)})
    )  # fmt: skip
    return figure


def gradients(view: SearchView, theme: Theme) -> go.Figure:
    """Searched gradients over the depth of the model: of the winner, or the best so far, and of four more."""
    import plotly.graph_objects as go

    look, lines, figure = LOOKS[theme], gradient_lines(view), go.Figure()
    top, names = lines[0].trial, list(view.report.gradients)
    colours = (look.better.text, look.worse.text, *look.ramp)
    for line in lines:
        is_top = line.trial == top
        figure.add_trace(
            go.Scatter(
                x=line.shares, y=line.values, mode="lines+markers" if is_top else "lines", opacity=1.0 if is_top else 0.3,
                name=f"trial {line.trial} · {escape(gradient_label(view, line.gradient))}", showlegend=is_top,
                line={"width": 3 if is_top else 1, "color": colours[names.index(line.gradient) % len(colours)]},
            )
        )  # fmt: skip
    figure.update_layout(
        _layout(view, theme, "Weights by layer", f"trial {top} in bold, the next best faint", height=480,
                xaxis={"title": "Depth: 0 is the first layer, 1 the last"}, yaxis={"title": "Value"})
    )  # fmt: skip
    return figure
