"""Runs in lists: what tells them apart, which runs are parts of one scan, and what became of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import Field, ValidationError

from dashboard import widgets
from dashboard.board import known_suite
from evals.engine import Frozen
from evals.scores import PROBE_SUITE
from orchestrator.display.text_safety import line
from orchestrator.plan.plan import Confirms
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import JobCounts, RunRecord, RunState

_SHORT_ID = 8


class RunEnd(Frozen):
    """What became of a run that has no whole result, and what to do."""

    title: str = Field(description="What happened.")
    sentence: str = Field(description="What is kept, and the next step.")
    command: str | None = Field(description="The command of the next step; null if there is none.")


def run_labels(runs: Sequence[RunRecord]) -> dict[str, str]:
    """A label of each run by its id: name, state, start; the end of its id where these are equal."""
    texts = {
        run.id: f"{line(run.name, 40)} {widgets.STATE_MARKS[run.state][0]} {start_of(run)}" for run in runs
    }
    count = Counter(texts.values())
    return {i: text if count[text] == 1 else f"{text} · {i[-_SHORT_ID:]}" for i, text in texts.items()}


def start_of(run: RunRecord) -> str:
    """When a run was made, to the second."""
    return f"{run.created_at:%m-%d %H:%M:%S}"


def suites_of(columns: Sequence[Column]) -> str:
    """The titles of the suites that a run scores."""
    return ", ".join(dict.fromkeys(_suite_title(column.suite) for column in columns)) or "–"


def _suite_title(name: str) -> str:
    suite = None if name == PROBE_SUITE else known_suite(name)
    return line(suite.title if suite else name, 40)


def parts_of_scans(pages: Pages) -> dict[str, str]:
    """Runs that are parts of another run's scan or search, with that run: its confirmation, and further depths."""
    plans = pages.confirming_plans()
    stored = frozenset(pages.run_ids()) if plans else frozenset()
    parts: dict[str, str] = {}
    for run_id, plan in plans.items():
        confirms = _confirms(plan)
        first = next((r for r in confirms.runs if r in stored), None) if confirms else None
        if confirms is not None and first is not None:
            parts |= {r: first for r in (*confirms.runs, run_id) if r != first and r in stored}
    return parts


def _confirms(plan: str) -> Confirms | None:
    try:
        recorded = json.loads(plan).get("confirms")
        return None if recorded is None else Confirms.model_validate(recorded)
    except (ValueError, ValidationError, AttributeError):
        return None


def run_end(run: RunRecord, progress: JobCounts) -> RunEnd | None:
    """What became of a run without a whole result; None if it is complete or under way."""
    kept = f"{progress.done:,} of {progress.total:,} jobs have a result, which is kept. Go on with:"
    mend = "Mend the cause below; then go on with:"
    if not progress.total:
        return RunEnd(
            title="This run is empty", sentence=_why_empty(run), command="mergeboard plan SWEEP.yaml"
        )
    failed = f"{progress.total - progress.done:,} of {progress.total:,} jobs have no result"
    if not progress.done:
        failed = f"All {progress.total:,} jobs failed: no result"
    texts = {
        RunState.INTERRUPTED: ("Interrupted", f"The process that drove it has stopped. {kept}"),
        RunState.WAITING: ("Not started", "No process drives this run yet. Start one with:"),
        RunState.CANCELLED: ("Cancelled", kept),
        RunState.FAILED: (failed, mend),
    }
    if run.state not in texts:
        return None
    title, sentence = texts[run.state]
    return RunEnd(title=title, sentence=sentence, command=going_on(run))


def going_on(run: RunRecord) -> str:
    """The command that goes on with a run: a search or a race of layer paths with the command that began it."""
    try:
        plan = json.loads(run.plan)
    except ValueError:
        plan = {}
    grows = isinstance(plan, dict) and bool(plan.get("grows")) and not plan.get("candidate_race")
    return run.provenance.command if grows and run.provenance.command else f"mergeboard resume {run.id}"


def _why_empty(run: RunRecord) -> str:
    """The benchmarks that could not be planned, or that the sweep asks for nothing."""
    try:
        plan: Mapping[str, object] = json.loads(run.plan)
        missing = plan.get("missing")
    except (ValueError, AttributeError):
        missing = None
    reasons = [str(reason) for reason in missing] if isinstance(missing, list) else []
    if reasons:
        return f"Nothing of its sweep can run: {line('; '.join(reasons[:3]), 400)}"
    return "Its sweep asks for no job: name recipes and suites that can be scored."


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds between two times; None if one is unknown."""
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())
