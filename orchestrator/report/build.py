"""Build the report of whatever a request names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.compare.run_comparisons import results_of_run
from orchestrator.plan.candidates import BASE_NAME
from orchestrator.report.claims_report import claims_report
from orchestrator.report.comparison_report import comparison_report
from orchestrator.report.merge_search_report import merge_search_report
from orchestrator.report.page import ReportPage
from orchestrator.report.request import ReportRequest, find_subject
from orchestrator.report.run_report import nothing_scored, run_report
from orchestrator.report.scan_report import scan_report
from orchestrator.report.scan_runs import asks_probes
from orchestrator.store.pages import Pages


def build_report(
    store: Pages,
    request: ReportRequest,
    home: Path,
    *,
    now: datetime | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReportPage:
    """The report of a run, scan, search, comparison or card; `progress` is told how many candidates of how many are compared.

    Raises RunError if the names are unknown or have no scores, and SamplesError if samples cannot be read.
    """
    now = now or datetime.now(UTC)
    subject = find_subject(store, request)
    if subject.card_id is not None:
        return claims_report(store, subject.card_id, request, now=now)
    if subject.run_id is None:
        return comparison_report(store, subject.candidates, request.base or BASE_NAME, request, home, now=now)
    run = store.run(subject.run_id)
    view = store.search_view(run.id)
    if view is not None:
        return merge_search_report(store, run, view, request, now=now)
    if asks_probes(store, run.id):
        return scan_report(store, run, request, home, now=now)
    results = results_of_run(store, run.id)
    if not results:
        raise nothing_scored(run)
    return run_report(store, run, results, request, home, now=now, progress=progress)
