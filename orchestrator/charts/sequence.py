"""Chart of one comparison's sequence: difference and interval against the questions asked, and where it stopped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from evals.stats.sequence import LookSequence
from evals.stats.stopping import Decision
from orchestrator.charts.records import ChartError
from orchestrator.charts.theme import LOOKS, Meaning, Theme, headline, new_figure, plotly_layout

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

_ACROSS = "Questions asked"
_UP = "Candidate minus base, points"
BAND = "Interval, valid at all times together"
_MEANINGS = {Decision.BETTER: Meaning.BETTER, Decision.WORSE: Meaning.WORSE}


def meaning_of_sequence(sequence: LookSequence) -> Meaning:
    """What the sequence shows, for its colour."""
    return _MEANINGS.get(sequence.decision, Meaning.NEUTRAL)


def _require_looks(sequence: LookSequence) -> None:
    if not sequence.looks:
        raise ChartError("The evaluation was not looked at in parts: there is no sequence to draw.")


def _subtitle(sequence: LookSequence) -> str:
    return f"{sequence.text} · error rate {sequence.plan.rule.error_rate:.2g} over all looks"


def sequence_chart(sequence: LookSequence, title: str, theme: Theme) -> go.Figure:
    """Interactive (plotly)."""
    import plotly.graph_objects as go

    _require_looks(sequence)
    look, looks = LOOKS[theme], sequence.looks
    tone, at = look.tone(meaning_of_sequence(sequence)), [x.n for x in sequence.looks]
    figure = go.Figure(
        go.Scatter(
            x=[*at, *at[::-1]], y=[*(x.interval.high for x in looks), *(x.interval.low for x in reversed(looks))],
            fill="toself", fillcolor=tone.tint, line={"width": 0}, hoverinfo="skip", name=BAND,
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=at, y=[x.delta_points for x in looks], mode="lines+markers", name="Difference", line={"color": tone.text, "width": 2.2},
            marker={"size": 6}, customdata=[[x.interval.low, x.interval.high] for x in looks],
            hovertemplate="%{x} questions<br><b>%{y:+.2f} points</b><br>%{customdata[0]:+.2f} to %{customdata[1]:+.2f}<extra></extra>",
        )
    )  # fmt: skip
    for value in _levels(sequence):
        figure.add_hline(
            y=value, line={"color": look.faint, "width": 1.2, "dash": "dash" if value else "solid"}
        )
    if sequence.early:
        figure.add_vline(
            x=at[-1], line={"color": tone.text, "width": 1.4, "dash": "dot"}, annotation_text="stopped here",
            annotation_font={"color": tone.text, "size": 12},
        )  # fmt: skip
    figure.update_layout(
        plotly_layout(
            theme, escape(title), escape(_subtitle(sequence)), width=860, height=440,
            xaxis={"title": _ACROSS, "range": [0, sequence.n_whole]}, yaxis={"title": _UP},
        )
    )  # fmt: skip
    return figure


def sequence_image(sequence: LookSequence, title: str, theme: Theme) -> Figure:
    """The chart as a matplotlib figure."""
    _require_looks(sequence)
    look, looks = LOOKS[theme], sequence.looks
    tone, at = look.tone(meaning_of_sequence(sequence)), [x.n for x in sequence.looks]
    figure, axes = new_figure(theme, 8.6, 4.4)
    headline(figure, theme, title, _subtitle(sequence))
    axes.grid(color=look.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    low, high = [x.interval.low for x in looks], [x.interval.high for x in looks]
    axes.fill_between(at, low, high, color=tone.tint, label=BAND)
    if len(looks) == 1:
        axes.errorbar(at, [(low[0] + high[0]) / 2], yerr=(high[0] - low[0]) / 2, color=tone.text, capsize=3)
    axes.plot(
        at,
        [x.delta_points for x in looks],
        color=tone.text,
        linewidth=2,
        marker="o",
        markersize=4,
        label="Difference",
    )
    for value in _levels(sequence):
        axes.axhline(value, color=look.faint, linewidth=1, linestyle="--" if value else "-")
    if sequence.early:
        axes.axvline(at[-1], color=tone.text, linewidth=1.3, linestyle=":", label=f"Stopped after {at[-1]:,}")
    axes.set_xlim(0, sequence.n_whole)
    axes.set_xlabel(_ACROSS)
    axes.set_ylabel(_UP)
    axes.legend(frameon=False, labelcolor=look.ink, fontsize=9.5, loc="best")
    return figure


def _levels(sequence: LookSequence) -> tuple[float, ...]:
    """Heights of the lines: 0, and both margins if there are any."""
    margin = sequence.plan.rule.margin_points
    return (0.0, margin, -margin) if margin else (0.0,)
