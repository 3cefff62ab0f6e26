"""Write a report as one HTML file or as Markdown."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from evals.atomic_file import write_file
from evals.engine import Frozen
from orchestrator.errors import MergeboardError
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.page import ReportKind, ReportPage

_SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}


class ReportFormat(StrEnum):
    """How a report is written."""

    HTML = "html"
    MARKDOWN = "markdown"


class WrittenReport(Frozen):
    """A report that was written."""

    path: str = Field(description="The file.")
    size_bytes: int = Field(ge=0, description="Its size in bytes.")
    kind: ReportKind = Field(description="What it is about.")
    format: ReportFormat = Field(description="How it is written.")
    verdict: str = Field(description="Its result in one sentence.")


def format_of(path: Path, chosen: ReportFormat | None) -> ReportFormat:
    """The chosen format, or that of the file's suffix. Raises MergeboardError for another suffix, a folder, or a place without
    write access."""
    if path.is_dir():
        raise MergeboardError(
            f"--out: {path} is a folder; name a file in it, for example {path / 'report.html'}."
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise MergeboardError(
            f"--out: {path} cannot be written, since {folder} is no folder that this user may write to; choose another place."
        )
    if chosen is not None:
        return chosen
    suffix = _SUFFIXES.get(path.suffix.lower())
    if suffix is None:
        raise MergeboardError(
            f"--out: {path} ends neither in .html nor in .md; name such a file, or say --format html or --format markdown."
        )
    return ReportFormat(suffix)


def rendered(page: ReportPage, form: ReportFormat) -> str:
    """The report as text."""
    return render_html(page) if form is ReportFormat.HTML else render_markdown(page)


def write_report(page: ReportPage, path: Path, form: ReportFormat) -> WrittenReport:
    """Write a report; an existing file is replaced. Raises OSError."""
    data = rendered(page, form).encode("utf-8", "replace")
    write_file(path, data)
    return WrittenReport(
        path=str(path), size_bytes=len(data), kind=page.kind, format=form, verdict=page.verdict.headline
    )
