"""Comparison of two layer paths by probes: values with null levels and ceiling, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import address, data, widgets
from dashboard.board import title
from dashboard.pages import questions
from dashboard.pages.questions import Asked
from dashboard.pairing import questions_of
from dashboard.scans import measure_of
from evals.documents import MAX_QUESTION, Document
from evals.engine import digest_of
from evals.errors import EvaluationError, SamplesError
from evals.probes import Gain, Scoring, get_probe, measure_gain
from evals.probes.evaluate import result_of_samples
from evals.samples import StoredSamples
from evals.scores import Sample
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.leaderboard import CandidateScores, EvaluationRecord
from orchestrator.store.pages import Column

_Samples = tuple[Sample, ...]


def show(left: CandidateScores, right: CandidateScores, columns: Sequence[Column], tried: int) -> None:
    """Draw all probes of both sides, and the questions of one; `tried` is the run's number of paths."""
    left_results, right_results = (
        {e.result.benchmark: e for e in side.evaluations} for side in (left, right)
    )
    shared = [c for c in columns if c.benchmark in left_results and c.benchmark in right_results]
    if not shared:
        widgets.show_message("No scores yet", "These two have not been asked the same probe so far.")
        return
    answers = {
        c.benchmark: (_answers(left_results[c.benchmark]), _answers(right_results[c.benchmark]))
        for c in shared
    }
    rows = [
        _row(c, left_results[c.benchmark], right_results[c.benchmark], answers[c.benchmark]) for c in shared
    ]
    st.subheader(escaped(_sentence(left, right, rows), 900), anchor=False)
    widgets.table(rows, "probes_compared", height=widgets.table_height(len(rows)), name="Comparison by probe")
    st.caption(
        "Probe values, 0 to 1, which are no benchmark's scores. The interval is paired over the questions and "
        f"not corrected for the {tried:,} layer paths of this run: the best of so many is best by luck as well. Only "
        "a confirmation on other questions tells (mergeboard scan makes one)."
    )
    names = [c.benchmark for c in shared]
    name = address.segments(
        "Probe",
        "bench",
        names,
        label_of=lambda b: escaped(next(title(c) for c in shared if c.benchmark == b), 60),
        resets=("subset", "doc", "questions"),
    )
    base, candidate = answers[name]
    if not base or not candidate:
        widgets.show_message(
            "No samples", "The answers to this probe are not on this machine: there are only values."
        )
        return
    gain = _gain(next(c for c in shared if c.benchmark == name), (base, candidate))
    questions.show(
        questions_of(base, candidate),
        left.candidate.name,
        right.candidate.name,
        asked_by(name),
        lost_first=gain is not None and gain.delta < 0,
    )


def _sentence(left: CandidateScores, right: CandidateScores, rows: Sequence[dict[str, Any]]) -> str:
    """What the probes say, before any correction."""
    names = f"{line(right.candidate.name, 60)} minus {line(left.candidate.name, 60)}"
    parts = [f"{row['Difference']} {row['95 % interval']} on {row['Probe']}" for row in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"{names}: {'; '.join(parts)}{more}. Not corrected, and no benchmark score."


def asked_by(name: str) -> Asked:
    """The questions of a probe, as this version defines it; empty for a probe that it does not have."""
    try:
        probe = get_probe(name)
    except EvaluationError:
        return {}
    return {
        (probe.name, number): Document(
            subset=probe.name,
            doc_id=number,
            doc_hash=digest_of(item),
            question="\n".join(dict.fromkeys(ask.question for ask in probe.asks(item)))[:MAX_QUESTION],
        )
        for number, item in enumerate(probe.items)
    }


def _answers(record: EvaluationRecord) -> _Samples:
    try:
        return data.fixed(_read, stored_samples(record.job_digest, record, data.settings().home))
    except SamplesError as error:
        widgets.show_message("No answers", str(error))
        return ()


def _read(stored: StoredSamples) -> _Samples:
    return stored.read()


def _row(
    column: Column, base: EvaluationRecord, candidate: EvaluationRecord, answers: tuple[_Samples, _Samples]
) -> dict[str, Any]:
    measure, gain = measure_of(column), _gain(column, answers)
    nulls = [null.value for null in measure.nulls]
    return {
        "Probe": measure.title,
        "Base": measure.text(base.result.raw),
        "Candidate": measure.text(candidate.result.raw),
        "Difference": measure.text(candidate.result.raw - base.result.raw, sign=True),
        "95 % interval": f"[{gain.interval.low:+z.3f}, {gain.interval.high:+z.3f}]" if gain else "–",
        "Knowing nothing": measure.text(max(nulls)) if nulls else "–",
        "Ceiling": "–" if measure.ceiling is None else measure.text(measure.ceiling),
        "n": candidate.result.n,
    }


def _gain(column: Column, answers: tuple[_Samples, _Samples]) -> Gain | None:
    """The paired difference; None without answers, or if this version defines the probe differently."""
    try:
        probe = get_probe(column.benchmark)
        if probe.digest != column.benchmark_digest or not all(answers):
            return None
        base, candidate = (result_of_samples(probe, samples) for samples in answers)
        return measure_gain([base], [candidate], Scoring.CORRECTED)
    except EvaluationError:
        return None
