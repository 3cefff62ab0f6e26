"""Additional read-only queries for the dashboard's pages.

`Pages` is a read-only store with these queries. Each reads at most the rows of one run, and returns at
most its limit.
"""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.pages.answers import (
    Arrivals,
    Column,
    FailureGroup,
    JobDetail,
    JobRow,
    Pace,
    ProbedRun,
    Work,
)
from orchestrator.store.pages.jobs import JobQuestions
from orchestrator.store.pages.runs import RunQuestions
from orchestrator.store.pages.scores import ScoreQuestions
from orchestrator.store.records import JobState

__all__ = [
    "Arrivals",
    "Column",
    "FailureGroup",
    "JobDetail",
    "JobRow",
    "JobState",
    "Pace",
    "Pages",
    "ProbedRun",
    "Work",
]


class Pages(RunQuestions, ScoreQuestions, JobQuestions, Store):
    """A store with the dashboard's queries."""

    serial: int = 0
    """Distinguishes opened stores."""
