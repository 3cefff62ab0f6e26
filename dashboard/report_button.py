"""A button that downloads the report of what a page shows, in one click."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from dashboard import data
from evals.errors import EvaluationError
from orchestrator.errors import MergeboardError
from orchestrator.report import ReportFormat, ReportRequest, build_report, rendered
from orchestrator.report.page import ReportKind, ReportPage, ReportVerdict
from orchestrator.settings import Settings
from orchestrator.store.pages import Pages

_HELP = (
    "One file that loads nothing from the network: verdict, tables, charts, flipped questions and methods."
)


def report_button(
    name: str,
    *,
    run_id: str | None = None,
    candidates: Sequence[str] = (),
    base: str | None = None,
    label: str = "Report",
    key: str = "report",
) -> None:
    """Draw a button that downloads a report as HTML; it is computed when it is clicked.

    `name` is for the file. Without `candidates` the report is about the run, else about these candidates of the run (or imported
    results) and `base`. A report that cannot be made holds the reason in its place.
    """
    names = tuple(candidates) or ((run_id,) if run_id is not None else ())
    if not names:
        return
    request = ReportRequest(names=names, base=base, run=run_id if candidates else None)
    settings = data.settings()
    st.download_button(
        label,
        data=lambda: report_bytes(request, settings),
        file_name=f"{file_stem(name)}.html",
        mime="text/html",
        key=key,
        on_click="ignore",
        icon=":material/summarize:",
        help=_HELP,
    )


def report_bytes(request: ReportRequest, settings: Settings) -> bytes:
    """The report as HTML in UTF-8, or a page with the reason why there is none."""
    try:
        with Pages.open(settings.database_url, create=False, read_only=True) as store:
            page = build_report(store, request, settings.home)
    except (MergeboardError, EvaluationError) as error:
        page = _without_report(str(error))
    return rendered(page, ReportFormat.HTML).encode("utf-8", "replace")


def file_stem(name: str) -> str:
    """A name as a file name: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:60] or "report"


def _without_report(reason: str) -> ReportPage:
    return ReportPage(
        kind=ReportKind.RUN,
        title="No report",
        made_at=datetime.now(UTC),
        verdict=ReportVerdict(headline=reason),
        sections=(),
    )
