"""The pictures of a merge search as images."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.charts import merges
from orchestrator.charts.files import Picture
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
from orchestrator.charts.merges import arm_colour, arm_title
from orchestrator.charts.records import ChartError
from orchestrator.charts.theme import LOOKS, Look, Theme, headline, new_figure, style_axes
from orchestrator.store.merge_report import SearchView
from orchestrator.store.trial_records import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = {Arm.SEARCH: "-", Arm.RANDOM: ":", Arm.GRID: "--"}
_MARKERS = {Arm.SEARCH: "o", Arm.RANDOM: "D", Arm.GRID: "s"}


def _begun(
    view: SearchView, theme: Theme, size: tuple[float, float], title: str, subtitle: str
) -> tuple[Figure, Axes]:
    figure, axes = new_figure(theme, *size)
    headline(figure, theme, f"{title} · {view.report.name}", subtitle, warning=SEARCH_WARNING)
    axes.grid(color=LOOKS[theme].grid, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _legend_below(axes: Axes, look: Look) -> None:
    """A legend that hides no point and no name of a reference."""
    axes.legend(frameon=False, labelcolor=look.ink, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def progress_image(view: SearchView, theme: Theme) -> Figure:
    """The best value so far against seconds."""
    look, lines = LOOKS[theme], progress_lines(view)
    subtitle = "weighted mean of the objectives, fraction of 1"
    figure, axes = _begun(view, theme, (8.8, 5), "Best merge so far", subtitle)
    for line in lines:
        axes.step(
            line.costs_s, line.best, where="post", linewidth=2, linestyle=_STYLES[line.arm], color=arm_colour(line.arm, look),
            label=arm_title(line.arm, view),
        )  # fmt: skip
    for level in levels(view):
        axes.axhline(level.value, color=look.null, linewidth=1.1, linestyle="--", zorder=1)
        axes.text(
            0.995, level.value, level.name, ha="right", va="bottom", transform=axes.get_yaxis_transform(), fontsize=9,
            color=look.null, parse_math=False,
        )  # fmt: skip
    axes.set_xlabel("Seconds of builds and evaluations")
    axes.set_ylabel("Best value")
    _legend_below(axes, look)
    return figure


def parameter_slices_image(view: SearchView, theme: Theme) -> Figure:
    """Value of every trial against each parameter."""
    from matplotlib.colors import LinearSegmentedColormap

    look, parts = LOOKS[theme], slices(view)
    columns = min(3, len(parts))
    rows = math.ceil(len(parts) / columns)
    subtitle = "one point a merge, later ones darker; share of the variance (fANOVA)"
    figure, first = _begun(
        view, theme, (max(6.0, 3.2 * columns), 1.2 + 2.4 * rows), "Parameters against value", subtitle
    )
    first.remove()
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    later = LinearSegmentedColormap.from_list("later", [look.missing_mark, look.better.text])
    for number, axes in enumerate(grid):
        if number >= len(parts):
            axes.remove()
            continue
        part = parts[number]
        style_axes(axes, theme)
        axes.grid(color=look.grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.scatter(part.x, part.y, c=part.trials, cmap=later, s=18, linewidths=0)
        share = "" if part.share is None else f" · {part.share:.0%}"
        axes.set_title(
            parameter_label(view, part.parameter.name) + share, fontsize=9, color=look.faint, parse_math=False
        )
        if part.parameter.log:
            axes.set_xscale("log")
    return figure


def importance_image(view: SearchView, theme: Theme) -> Figure:
    """Share of the values' variance that each parameter explains."""
    look, shares = LOOKS[theme], importances(view)
    size = (8.8, 1.6 + 0.32 * len(shares))
    figure, axes = _begun(
        view, theme, size, "Which parameter matters", "share of the values' variance by fANOVA"
    )
    axes.barh(
        [parameter_label(view, name) for name, _ in shares],
        [share for _, share in shares],
        color=look.better.text,
    )
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_xlabel("Share of the variance")
    return figure


def objectives_front_image(view: SearchView, theme: Theme) -> Figure:
    """The first two objectives of every merge, with the Pareto front and the references."""
    look, (complete, best) = LOOKS[theme], front(view)
    subtitle = f"{front_text(best)} of the first two objectives"
    figure, axes = _begun(view, theme, (8, 6), "Objectives", subtitle)
    for arm in Arm:
        points = [trial.objectives for trial in complete if trial.arm is arm and trial.objectives]
        if points:
            axes.scatter(
                [p[0] for p in points], [p[1] for p in points], s=26, marker=_MARKERS[arm], color=arm_colour(arm, look), alpha=0.65,
                linewidths=0, label=arm_title(arm, view),
            )  # fmt: skip
    edge = [trial.objectives or (0.0, 0.0) for trial in best]
    axes.step(
        [p[0] for p in edge],
        [p[1] for p in edge],
        where="pre",
        color=look.better.text,
        linewidth=1.6,
        label="Pareto front",
    )
    for reference in view.report.references:
        if reference.objectives is not None:
            x, y = reference.objectives[:2]
            axes.scatter([x], [y], s=110, facecolors="none", edgecolors=look.base, linewidths=2)
            axes.annotate(
                reference.name,
                (x, y),
                (0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=look.ink,
                parse_math=False,
            )
    axes.margins(0.1)
    axes.set_xlabel(view.report.objectives[0].name, parse_math=False)
    axes.set_ylabel(view.report.objectives[1].name, parse_math=False)
    _legend_below(axes, look)
    return figure


def gradients_image(view: SearchView, theme: Theme) -> Figure:
    """Searched gradients over the depth of the model."""
    look, lines = LOOKS[theme], gradient_lines(view)
    top, names = lines[0].trial, list(view.report.gradients)
    colours = (look.better.text, look.worse.text, *look.ramp)
    figure, axes = _begun(
        view, theme, (8.8, 4.8), "Weights by layer", f"trial {top} in bold, the next best faint"
    )
    for line in lines:
        is_top = line.trial == top
        axes.plot(
            line.shares, line.values, color=colours[names.index(line.gradient) % len(colours)], linewidth=2.6 if is_top else 1,
            alpha=1.0 if is_top else 0.3, marker="o" if is_top else None,
            label=f"trial {line.trial} · {gradient_label(view, line.gradient)}" if is_top else None,
        )  # fmt: skip
    axes.set_xlabel("Depth: 0 is the first layer, 1 the last")
    axes.set_ylabel("Value")
    _legend_below(axes, look)
    return figure


def merge_pictures(view: SearchView, theme: Theme) -> list[Picture]:
    """All pictures of a search that have data, by name."""
    drawn = (
        ("progress", progress_lines, progress_image, merges.progress),
        ("objectives", front, objectives_front_image, merges.objectives_front),
        ("parameters", slices, parameter_slices_image, merges.parameter_slices),
        ("importance", importances, importance_image, merges.importance),
        ("gradients", gradient_lines, gradients_image, merges.gradients),
    )
    pictures: list[Picture] = []
    for name, data, image, figure in drawn:
        try:
            data(view)
        except ChartError:
            continue  # not enough data for this picture, for example one objective
        pictures.append((name, partial(image, view, theme), partial(figure, view, theme)))
    return pictures
