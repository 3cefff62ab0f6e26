"""What a reader of a report has to know first: smoke test data, partial scores, forced comparisons, a run that is not over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evals.scores import BenchmarkScore
from orchestrator.compare import Comparison
from orchestrator.compare.run_comparisons import CandidateResult
from orchestrator.display.text_safety import line
from orchestrator.report.page import ReportLine, ReportTone
from orchestrator.store import Store
from orchestrator.store.records import JobCounts, RunRecord, RunState

_STATES = {
    RunState.WAITING: "has not started",
    RunState.RUNNING: "is still running",
    RunState.INTERRUPTED: "was interrupted",
    RunState.CANCELLED: "was cancelled",
    RunState.FAILED: "ended with failed jobs",
    RunState.DONE: "ended without some jobs",
}
_MOST_REMARKS = 3
_MOST_NAMES = 4


def run_notices(store: Store, run: RunRecord) -> tuple[ReportLine, ...]:
    """A notice for a run that is not over, or that ended without some of its jobs; empty otherwise."""
    counts = store.progress(run.id)
    if run.state is RunState.DONE and counts.done == counts.total:
        return ()
    jobs = f"{counts.done:,} of {counts.total:,} jobs are done"
    failed = f", {counts.failed:,} failed" if counts.failed else ""
    text = f"Run {run.id} {_STATES[run.state]}: {jobs}{failed}.{_advice(run, counts)}"
    return (ReportLine(text=text, tone=ReportTone.WARNING),)


def result_notices(
    results: Sequence[CandidateResult], comparisons: Sequence[Comparison]
) -> tuple[ReportLine, ...]:
    """Notices of smoke, partial and doubtful scores and of forced comparisons."""
    scores = [(r.candidate.name, o.evaluation.result) for r in results for _, o in r.evaluated]
    return (*score_notices(scores), *forced_notices(comparisons))


def score_notices(scores: Iterable[tuple[str, BenchmarkScore]]) -> tuple[ReportLine, ...]:
    """Notices of scores that are not the leaderboard's, partial or doubtful; names with their scores."""
    remarks: dict[str, None] = {}
    partial: dict[str, None] = {}
    doubtful: dict[str, None] = {}
    for name, score in scores:
        if not score.comparable_to_board and score.remark:
            remarks[score.remark] = None
        if score.partial:
            partial[name] = None
        if score.alarms:
            doubtful[name] = None
    notices = []
    if remarks:
        shown = " ".join(list(remarks)[:_MOST_REMARKS])
        notices.append(f"Not leaderboard scores. {shown}")
    if partial:
        notices.append(
            f"Partial: {_names(partial)} {'has' if len(partial) == 1 else 'have'} scores on a part of the questions."
        )
    if doubtful:
        notices.append(
            f"Doubtful responses (empty, truncated, unparsed, repetitive or identical ones): {_names(doubtful)}; marked ⚠."
        )
    return tuple(ReportLine(text=text, tone=ReportTone.WARNING) for text in notices)


def forced_notices(comparisons: Sequence[Comparison]) -> tuple[ReportLine, ...]:
    """A notice of comparisons that were made in spite of reasons against them."""
    forced = [c for c in comparisons if c.forced]
    if not forced:
        return ()
    reasons = dict.fromkeys(reason for c in forced for row in c.rows if row.forced for reason in row.refused)
    text = f"Forced: compared although not like for like ({'; '.join(list(reasons)[:_MOST_REMARKS])})."
    return (ReportLine(text=text, tone=ReportTone.WARNING),)


def _advice(run: RunRecord, counts: JobCounts) -> str:
    if run.state in (RunState.RUNNING, RunState.WAITING):
        return " What is missing can still change the verdict; make the report again at its end."
    if run.state in (RunState.INTERRUPTED, RunState.CANCELLED, RunState.FAILED) or counts.failed:
        return f" `mergeboard status {run.id}` shows why, `mergeboard resume {run.id}` goes on."
    return ""


def _names(names: Iterable[str]) -> str:
    shown = [line(name, 60) for name in names]
    more = len(shown) - _MOST_NAMES
    return ", ".join(shown[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
