"""Refused comparisons: the reason, what to do about it, and the command that does it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import streamlit as st

from dashboard import address, data
from dashboard.address import View
from dashboard.components.code import show_command
from dashboard.pages.job import base_place
from dashboard.repeat import EvaluatedSide, together_command
from orchestrator.compare import Comparison, ComparisonRow
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
    refused = [row for row in comparison.rows if row.delta is None]
    reasons = list(dict.fromkeys(reason for row in refused for reason in row.refused))
    one_sided = all(reason.startswith("only the ") for reason in reasons)
    with st.container(border=True, key="refused"):
        st.markdown("**:material/block: Not compared, and what to do**")
        for text in refusal_lines(refused, len(comparison.rows)):
            st.text(text)
        st.text(remedy(reasons))
        if one_sided:
            show_command(f"mergeboard resume {run.id}")
            missing = right if reasons[0].endswith("base has it") else left
            address.link(View.JOB, "Its jobs", run=run.id, of=missing.candidate.position)
            return
        command = _together(pages, run, left, right)
        if command is not None:
            st.caption("Both in one sweep, with the settings of the base:")
            show_command(command)
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


def refusal_lines(refused: Sequence[ComparisonRow], total: int) -> list[str]:
    """A line per kind of reason, with the benchmarks that it concerns; `total` is the number of all benchmarks."""
    first: dict[str, str] = {}
    titles: dict[str, list[str]] = {}
    for row in refused:
        for reason in row.refused:
            kind = reason.partition(":")[0]
            first.setdefault(kind, reason)
            titles.setdefault(kind, []).append(row.title)
    whole = {kind: len(set(names)) == total > 1 for kind, names in titles.items()}
    return [
        f"⊘ {'All benchmarks' if whole[kind] else line(', '.join(dict.fromkeys(titles[kind])), 120)}: {line(reason, 400)}"
        for kind, reason in first.items()
    ]


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
    build = detail.job.live_merge.build if detail.job.live_merge else None
    if build is None and detail.job.place.artifact is not None:
        built = data.fixed(pages.job_detail, detail.job.place.artifact, run.id)
        build = built.job if built is not None and isinstance(built.job, BuildJob) else None
    names = [e.result.benchmark for e in scores.evaluations if e.suite == detail.job.suite]
    return EvaluatedSide(
        candidate=scores.candidate, job=detail.job, build=build, benchmarks=tuple(dict.fromkeys(names))
    )
