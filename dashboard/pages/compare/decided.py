"""The comparisons that were looked at while they were asked: decisions, and the sequence of one as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import address, charts, data, widgets
from orchestrator.charts import sequence_chart, sequence_image
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.pages import Pages
from orchestrator.store.records import CandidateRecord, RunRecord
from orchestrator.store.sequences import SequenceRecord

_HEIGHT = 440


def show_decided(pages: Pages, run: RunRecord, candidate: CandidateRecord, suite: str) -> None:
    """Draw what was decided early about a candidate in one suite; nothing if its evaluations could not stop early."""
    records = [
        record
        for record in data.live(pages.sequences, run.id, candidate=candidate.position)
        if record.suite == suite
    ]
    if not records:
        return
    st.subheader("Stopped when decided", anchor=False)
    widgets.table([_cells(record) for record in records], "decided", name="Decisions by benchmark")
    st.caption(
        "Against the run's base. A score marked early is of the questions that were asked, with an interval that is valid at all times; it "
        f"is no score of the benchmark. `mergeboard resume {escaped(run.id, 80)} --whole` completes it and asks nothing twice."
    )
    drawn = [record for record in records if record.sequence.looks]
    if drawn:
        _chart(drawn, candidate)


def _chart(records: Sequence[SequenceRecord], candidate: CandidateRecord) -> None:
    by_name = {record.benchmark: record for record in records}
    first = next((record for record in records if record.early), records[0])
    chosen = address.choose(
        "Sequence of",
        "seq",
        list(by_name),
        default=first.benchmark,
        label_of=lambda name: line(by_name[name].title, 60),
    )
    record = by_name[chosen]
    title = f"{line(candidate.name, 60)} on {line(record.title, 60)}"
    theme = widgets.theme()
    charts.plot(
        lambda: sequence_chart(record.sequence, title, theme),
        "sequence",
        height=_HEIGHT,
        alt=f"{title}: {record.sequence.text}",
    )
    charts.images(
        "sequence", f"sequence-{record.benchmark}", lambda: sequence_image(record.sequence, title, theme)
    )


def _cells(record: SequenceRecord) -> dict[str, Any]:
    sequence = record.sequence
    last, score = sequence.last, sequence.score
    return {
        "Benchmark": line(record.title, 60),
        "Decision": sequence.text,
        "Δ points": round(last.delta_points, 2) if last else None,
        "Interval": f"[{last.interval.low:+z.2f}, {last.interval.high:+z.2f}]" if last else "",
        "Early score": f"{score.value:.1f} [{score.interval.low:.1f}, {score.interval.high:.1f}] early"
        if record.early and score
        else "whole",
        "Asked": sequence.n,
        "of": sequence.n_whole,
    }
