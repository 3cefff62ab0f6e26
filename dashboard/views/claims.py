"""claims."""

from __future__ import annotations

from dashboard import parts
from dashboard.queries import Pages
from orchestrator.records import RunRecord


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    parts.heading("claims")
