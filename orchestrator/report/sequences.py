"""Comparisons that were looked at while they were asked: their section in a report, and the plot of each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from evals.stats.stopping import Decision
from orchestrator.display.text_safety import line
from orchestrator.report.page import (
    LookPoint,
    ReportSection,
    ReportTone,
    SequenceLine,
    SequenceList,
)
from orchestrator.store.sequences import Savings, SequenceRecord

_WIDTH, _HEIGHT, _MARGIN = 180, 44, 3
_TONES = {Decision.BETTER: ReportTone.BETTER, Decision.WORSE: ReportTone.WORSE}
_CLASSES = {ReportTone.BETTER: " b", ReportTone.WORSE: " w"}
_NOT_SCORES = (
    "A score marked early is of the questions that were asked, and no score of the benchmark: it stands in no table, card or export. "
    "`mergeboard resume RUN --whole` completes it and asks nothing twice."
)


def sequences_section(
    records: Sequence[SequenceRecord], savings: Savings | None, run_id: str
) -> ReportSection | None:
    """The section of a run whose evaluations could stop early; None without one."""
    if not records:
        return None
    rule = records[0].sequence.plan.rule
    intro = (
        f"Candidates were asked in a random order of the questions until their difference to the base was decided, with an error rate of "
        f"{rule.error_rate:.2g} for each comparison, over all looks together. The plot shows difference and interval against the questions "
        "asked; a dotted line marks where it stopped."
    )
    notes = [*([f"{savings.sentence}."] if savings is not None else []), _NOT_SCORES.replace("RUN", run_id)]
    block = SequenceList(
        caption="Comparisons with the base while they were asked",
        lines=tuple(map(_line, records)),
        notes=tuple(notes),
    )
    return ReportSection(key="decided", title="Stopped when decided", intro=intro, blocks=(block,))


def _line(record: SequenceRecord) -> SequenceLine:
    sequence = record.sequence
    value = f"{sequence.score.value:.1f} " if sequence.score is not None else ""
    score = f"{value}early" if record.early else "whole"
    return SequenceLine(
        candidate=line(record.candidate, 80),
        benchmark=line(record.title, 60),
        text=sequence.text,
        tone=_TONES.get(sequence.decision, ReportTone.PLAIN),
        early=record.early,
        score=score,
        n_whole=sequence.n_whole,
        looks=tuple(
            LookPoint(n=x.n, delta=x.delta_points, low=x.interval.low, high=x.interval.high)
            for x in sequence.looks
        ),
    )


def sequence_plot(entry: SequenceLine) -> Markup:
    """Difference and interval against the questions asked, as inline SVG; empty without looks."""
    if not entry.looks:
        return Markup("")
    # The first intervals are wide: the plot is scaled to the later half of the looks.
    last, later = entry.looks[-1], entry.looks[len(entry.looks) // 2 :]
    span = max(1.0, *(1.1 * max(abs(look.low), abs(look.high)) for look in later))

    def x(n: int) -> float:
        return round(_MARGIN + n / entry.n_whole * (_WIDTH - 2 * _MARGIN), 1)

    def y(value: float) -> float:
        return round(_HEIGHT / 2 - max(-span, min(span, value)) / span * (_HEIGHT / 2 - _MARGIN), 1)

    top = " ".join(f"{x(look.n)},{y(look.high)}" for look in entry.looks)
    bottom = " ".join(f"{x(look.n)},{y(look.low)}" for look in reversed(entry.looks))
    middle = " ".join(f"{x(look.n)},{y(look.delta)}" for look in entry.looks)
    stop = (
        Markup('<path class=e d="M{},{}V{}"/>').format(x(last.n), _MARGIN, _HEIGHT - _MARGIN)
        if entry.early
        else Markup("")
    )
    return Markup(
        '<svg class="seq{}" viewBox="0 0 {} {}" role=img aria-label="{}"><polygon class=a points="{} {}"/>'
        '<path class=z d="M0,{}H{}"/><polyline points="{}"/>{}</svg>'
    ).format(
        _CLASSES.get(entry.tone, ""),
        _WIDTH,
        _HEIGHT,
        f"{entry.candidate}, {entry.benchmark}: {entry.text}",
        top,
        bottom,
        y(0.0),
        _WIDTH,
        middle,
        stop,
    )
