"""Refused comparisons: the reason, what to do about it, and the command that does it."""

from __future__ import annotations

import shlex

import streamlit as st

from dashboard import address, data
from dashboard.address import View
from dashboard.pages.job import base_place
from dashboard.repeat import EvaluatedSide, together_command
from orchestrator.compare import Comparison
from orchestrator.compare.remedy import remedy
from orchestrator.display.text_safety import escaped, line
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunRecord


def show_refusal(
    pages: Pages, run: RunRecord, comparison: Comparison, left: CandidateScores, right: CandidateScores
) -> None:
    """Draw why benchmarks of this comparison are refused, and the remedy."""
    benchmarks: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.delta is None:
            for reason in row.refused:
                benchmarks.setdefault(reason, []).append(row.title)
    reasons = list(benchmarks)
    one_sided = all(reason.startswith("only the ") for reason in reasons)
    with st.container(border=True, key="refused"):
        st.markdown("**:material/block: Not compared, and what to do**")
        for reason, titles in benchmarks.items():
            what = "all benchmarks" if len(titles) == len(comparison.rows) > 1 else ", ".join(titles)
            st.text(f"⊘ {line(what, 120)}: {line(reason, 400)}")
        st.text(remedy(reasons))
        if one_sided:
            st.code(f"mergeboard resume {run.id}", language="bash")
            missing = right if reasons[0].endswith("base has it") else left
            address.link(View.JOB, "Its jobs", run=run.id, of=missing.candidate.position)
            return
        command = _together(pages, run, left, right)
        if command is not None:
            st.caption("Both in one sweep, with the settings of the base:")
            st.code(
                command,
                language="bash",
                wrap_lines=True,
                height=260 if command.count("\n") > 14 else "content",
            )
        force = shlex.join(
            [
                "mergeboard",
                "compare",
                right.candidate.name,
                "--base",
                left.candidate.name,
                "--run",
                run.id,
                "--force",
            ]
        )
        st.caption(f"To see the difference in spite of this, marked as forced: {escaped(force, 400)}")


def _together(pages: Pages, run: RunRecord, left: CandidateScores, right: CandidateScores) -> str | None:
    """A script that evaluates both sides with the settings of the base; None if no sweep can say it."""
    sides = [evaluated_side(pages, run, scores) for scores in (left, right)]
    known = [side for side in sides if side is not None]
    return together_command(known, base_place(pages, run)) if len(known) == 2 else None


def evaluated_side(pages: Pages, run: RunRecord, scores: CandidateScores) -> EvaluatedSide | None:
    """A candidate with its first evaluation job and the job that built its checkpoint; None if it has no job."""
    if not scores.evaluations:
        return None
    detail = data.fixed(pages.job_detail, scores.evaluations[0].job_digest, run.id)
    if detail is None or not isinstance(detail.job, EvalJob):
        return None
    build = None
    if detail.job.place.artifact is not None:
        built = data.fixed(pages.job_detail, detail.job.place.artifact, run.id)
        build = built.job if built is not None and isinstance(built.job, BuildJob) else None
    names = [e.result.benchmark for e in scores.evaluations if e.suite == detail.job.suite]
    return EvaluatedSide(
        candidate=scores.candidate, job=detail.job, build=build, benchmarks=tuple(dict.fromkeys(names))
    )
