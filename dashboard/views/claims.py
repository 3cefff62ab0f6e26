"""Claims: card by card, what was claimed, what came of it, and why."""

from __future__ import annotations

from dashboard import parts
from dashboard.queries import Pages
from dashboard.text import line
from orchestrator.records import RunRecord


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    parts.heading("Claims", line(run.name, 100) if run else "")
    parts.kindly(
        "No claims in this store",
        "A model card's figures are checked, claim by claim, by:",
        command="mergeboard reproduce CARD.md",
        icon=":material/fact_check:",
    )
