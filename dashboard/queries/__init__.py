"""What the pages ask of the store beyond its own questions: read-only, and each bounded by what it returns.

`Pages` is the store opened for reading alone, with these questions added. None of them touches more rows than one
run has, and none returns more than its limit.
"""

from __future__ import annotations

from dashboard.queries.jobs import JobQuestions
from dashboard.queries.records import Arrivals, Column, Cost, JobDetail, JobRow, JobState, Pace, Work
from dashboard.queries.runs import RunQuestions
from dashboard.queries.scores import ScoreQuestions
from orchestrator.store import Store

__all__ = [
    "Arrivals",
    "Column",
    "Cost",
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
