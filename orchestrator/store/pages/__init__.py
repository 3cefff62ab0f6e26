"""What the pages ask of the store beyond its own questions: read-only, and each bounded by what it returns.

`Pages` is the store opened for reading alone, with these questions added. None of them touches more rows than one
run has, and none returns more than its limit.
"""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.pages.answers import Arrivals, Column, JobDetail, JobRow, Pace, Work
from orchestrator.store.pages.jobs import JobQuestions
from orchestrator.store.pages.runs import RunQuestions
from orchestrator.store.pages.scores import ScoreQuestions
from orchestrator.store.records import JobState

__all__ = [
    "Arrivals",
    "Column",
    "JobDetail",
    "JobRow",
    "JobState",
    "Pace",
    "Pages",
    "Work",
]


class Pages(RunQuestions, ScoreQuestions, JobQuestions, Store):
    """The store as the dashboard sees it."""

    serial: int = 0
    """Tells one opened store from another."""
