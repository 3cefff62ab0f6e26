"""Reports: one self-contained page, or Markdown, about a run, a comparison, a scan, a search or a card.

page.py          the report as a value; everything below it only builds or renders one
request.py       what the user asked about
build.py         the builder for it: run_report, comparison_report, scan_report, claims_report
verdicts.py      the verdict in words; leaderboard.py, deltas.py, questions.py, methods.py: the parts
html.py          one file that loads nothing (drawing.py: its charts; templates/: its parts)
markdown.py      the same for a pull request or a card
files.py         write one of them
"""

from orchestrator.report.build import build_report
from orchestrator.report.files import ReportFormat, WrittenReport, rendered, write_report
from orchestrator.report.page import ReportKind, ReportPage
from orchestrator.report.request import ReportRequest

__all__ = [
    "ReportFormat",
    "ReportKind",
    "ReportPage",
    "ReportRequest",
    "WrittenReport",
    "build_report",
    "rendered",
    "write_report",
]
