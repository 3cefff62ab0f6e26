"""Chart of a race: the value of every path or candidate against the questions asked, who left, and how many went on."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pydantic import Field

from evals.engine import Frozen
from orchestrator.charts.records import ChartError
from orchestrator.charts.theme import LOOKS, Theme, headline, new_figure, plotly_layout

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

# Paths whose intervals are drawn at each look: those of hundreds would hide each other.
_WITH_INTERVAL = 10


class RacePoint(Frozen):
    """A path's value after some questions."""

    n: int = Field(description="Questions that it was asked.")
    value: float = Field(description="Its combined value minus the base's.")
    low: float | None = Field(
        default=None, description="Lower end of its interval; null after all questions."
    )
    high: float | None = Field(
        default=None, description="Upper end of its interval; null after all questions."
    )


class RaceLine(Frozen):
    """One path of a race."""

    label: str = Field(description="Short name of the path.")
    points: tuple[RacePoint, ...] = Field(min_length=1, description="Its values, by number of questions.")
    left: bool = Field(description="Whether it left; its last point is then an early one.")


class RacePicture(Frozen):
    """A race, as it is drawn."""

    title: str = Field(description="What was scanned.")
    subtitle: str = Field(description="What the race saved, and its error rate.")
    unit: str = Field(description="What a value is.")
    counts: tuple[tuple[int, int], ...] = Field(
        description="Number of questions of a look, and of the paths that were asked them; the whole set last."
    )
    lines: tuple[RaceLine, ...] = Field(description="The paths, those that went on first, the best first.")
    warning: str | None = Field(default=None, description="What its values must not be taken for.")
    racer: str = Field(default="path", description="What races, in the singular.")

    @property
    def across(self) -> str:
        """Title of the horizontal axis."""
        return f"Questions asked of a {self.racer}"


def _ticks(race: RacePicture) -> tuple[list[int], list[str]]:
    if not race.lines:
        raise ChartError("No path of the race was asked anything.")
    return [n for n, _ in race.counts], [f"{n:,}<br>{racers:,} {race.racer}s" for n, racers in race.counts]


def race_chart(race: RacePicture, theme: Theme) -> go.Figure:
    """Interactive (plotly)."""
    import plotly.graph_objects as go

    look = LOOKS[theme]
    places, texts = _ticks(race)
    figure = go.Figure()
    for left, colour, name in (
        (True, look.missing_mark, "Left"),
        (False, look.better.text, "Asked everything"),
    ):
        chosen = [line for line in race.lines if line.left is left]
        # One trace with gaps: hundreds of traces would make the page slow.
        x: list[int | None] = []
        y: list[float | None] = []
        labels: list[str] = []
        for line in chosen:
            x += [*(point.n for point in line.points), None]
            y += [*(point.value for point in line.points), None]
            labels += [escape(line.label)] * (len(line.points) + 1)
        if chosen:
            figure.add_trace(
                go.Scatter(
                    x=x, y=y, mode="lines+markers", name=f"{name} ({len(chosen)})", customdata=labels,
                    line={"color": colour, "width": 1 if left else 2}, marker={"size": 4 if left else 6}, opacity=0.5 if left else 1.0,
                    hovertemplate="<b>%{customdata}</b><br>%{x} questions<br>%{y:+.2f}<extra></extra>",
                )
            )  # fmt: skip
    spans = [
        p
        for line in race.lines[:_WITH_INTERVAL]
        for p in line.points
        if p.low is not None and p.high is not None
    ]
    if spans:
        figure.add_trace(
            go.Scatter(
                x=[p.n for p in spans], y=[p.value for p in spans], mode="markers", name=f"Interval (best {_WITH_INTERVAL})", hoverinfo="skip",
                marker={"size": 1, "color": look.better.text}, opacity=0.6,
                error_y={
                    "array": [(p.high or 0.0) - p.value for p in spans], "arrayminus": [p.value - (p.low or 0.0) for p in spans],
                    "color": look.better.text, "thickness": 1,
                },
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": look.faint, "width": 1.2})
    figure.update_layout(
        plotly_layout(
            theme, escape(f"The race · {race.title}"), escape(race.subtitle), warning=race.warning, width=860, height=520,
            xaxis={"title": race.across, "tickvals": places, "ticktext": texts}, yaxis={"title": escape(race.unit)},
        )
    )  # fmt: skip
    return figure


def race_image(race: RacePicture, theme: Theme) -> Figure:
    """The chart as a matplotlib figure."""
    look = LOOKS[theme]
    places, texts = _ticks(race)
    figure, axes = new_figure(theme, 8.6, 5.2)
    headline(figure, theme, f"The race · {race.title}", race.subtitle, warning=race.warning)
    axes.grid(color=look.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for left, colour, name in (
        (True, look.missing_mark, "Left"),
        (False, look.better.text, "Asked everything"),
    ):
        chosen = [line for line in race.lines if line.left is left]
        for number, line in enumerate(chosen):
            axes.plot(
                [point.n for point in line.points],
                [point.value for point in line.points],
                color=colour,
                linewidth=0.6 if left else 1.4,
                marker="o",
                markersize=2 if left else 3.5,
                alpha=0.5 if left else 1.0,
                label=f"{name} ({len(chosen)})" if number == 0 else None,
            )
    for line in race.lines[:_WITH_INTERVAL]:
        for point in line.points:
            if point.low is not None and point.high is not None:
                axes.vlines(point.n, point.low, point.high, color=look.better.text, linewidth=0.8, alpha=0.5)
    axes.axhline(0, color=look.faint, linewidth=1)
    axes.set_xticks(places, [text.replace("<br>", "\n") for text in texts])
    axes.set_xlabel(race.across)
    axes.set_ylabel(race.unit)
    axes.legend(frameon=False, labelcolor=look.ink, fontsize=9.5, loc="best")
    return figure
