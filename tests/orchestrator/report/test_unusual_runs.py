"""Runs that are not the demo: two engines, partial scores, no base, nothing scored, and a scan made by the product itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from evals.suite import load_suite
from orchestrator.errors import RunError
from orchestrator.report import ReportPage, ReportRequest, build_report
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.page import ReportTone
from orchestrator.report.scan_report import read_scan
from orchestrator.search.grid_scan import scan_with
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import FailureClass, RunState
from tests.orchestrator.search.test_grid_scan import at, request
from tests.support.demo_stores import Maker, store_url
from tests.support.made_results import DEMO, ENGINE, Made
from tests.support.tiny_checkpoints import tiny_checkpoint

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SMOKE = load_suite("smoke")


def report(home: Path, run: str) -> ReportPage:
    with Pages.open(store_url(home), create=False, read_only=True) as store:
        return build_report(store, ReportRequest(names=(run,)), home, now=NOW)


def test_two_engines_have_a_verdict_each(home: Path) -> None:
    other = ENGINE.model_copy(update={"dtype": "float32"})
    candidates = (DEMO[0], DEMO[4])
    with Store.open(store_url(home)) as store:
        makers = [Maker(store, home, SMOKE, n=8), Maker(store, home, SMOKE, n=8, engine=other)]
        planned = [(maker, item) for maker in makers for item in maker.planned(candidates)]
        lease = makers[0].write(candidates, [item for _, item in planned])
        for maker, item in planned:
            maker.execute(lease, item, candidates[item.candidates[0]])
        store.finish_run(lease, RunState.DONE)
    page = report(home, lease.run_id)
    titles = [section.title for section in page.sections]
    assert "Leaderboard · smoke, vllm 0.32.0+cpu, bfloat16" in titles
    assert "Verdict · smoke, vllm 0.32.0+cpu, float32" in titles
    assert "14 tests" in render_html(page)
    assert "float32" in render_markdown(page)


def test_partial_scores_are_marked(home: Path) -> None:
    with Store.open(store_url(home)) as store:
        run = Maker(store, home, SMOKE, n=4, whole=False).run((DEMO[0], DEMO[3]))
    page = report(home, run)
    assert any(notice.text.startswith("Partial: ") for notice in page.notices)
    assert any(line.tone is ReportTone.WARNING and "Partial" in line.text for line in page.verdict.lines)
    assert "◔" in render_html(page)


def test_a_run_whose_base_failed_shows_scores_only(home: Path) -> None:
    broken = Made("base", failure=FailureClass.OUT_OF_MEMORY)
    with Store.open(store_url(home)) as store:
        run = Maker(store, home, SMOKE, n=4).run((broken, DEMO[3]), end=RunState.FAILED)
    page = report(home, run)
    assert "ended with failed jobs" in page.notices[0].text
    assert f"`mergeboard resume {run}`" in page.notices[0].text
    assert page.verdict.tone is ReportTone.REFUSED
    assert "Scores only" in render_html(page)


def test_a_run_without_any_score_is_refused(home: Path) -> None:
    broken = tuple(Made(name, failure=FailureClass.OUT_OF_MEMORY) for name in ("base", "other"))
    with Store.open(store_url(home)) as store:
        run = Maker(store, home, SMOKE, n=4).run(broken, end=RunState.FAILED)
    with pytest.raises(RunError, match=f"Run {run} has no score yet .failed.: there is nothing to report"):
        report(home, run)


@pytest.mark.slow
def test_a_scan_says_what_the_command_said(tmp_path: Path) -> None:
    scan = scan_with(request(tiny_checkpoint(tmp_path / "tiny", layers=4)), *at(tmp_path / "home"))
    home = tmp_path / "home"
    with Pages.open(f"sqlite:///{home}/store.sqlite", create=False, read_only=True) as store:
        for run in (scan.run_id, scan.confirmation_run_id):
            assert run is not None
            found = read_scan(store, store.run(run), home)
            assert found.confirmation == scan.confirmation
            assert [p.layers for p in found.ranking.paths] == [p.layers for p in scan.ranking.paths]
            page = build_report(store, ReportRequest(names=(run,)), home, now=NOW)
            assert page.verdict.lines[0].text == scan.conclusion.replace(" -", " −")
