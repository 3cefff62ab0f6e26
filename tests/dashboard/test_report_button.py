"""The button that downloads a report: one click, the report itself, or the reason why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.report_button import file_stem, report_bytes
from orchestrator.report import ReportRequest
from orchestrator.settings import Settings
from tests.support.demo_stores import demo_store


def _page() -> None:
    import os

    from dashboard.report_button import report_button

    report_button("my run / <b>", run_id=os.environ["RUN"])


def test_one_click_downloads_the_report(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = demo_store(home)
    monkeypatch.setenv("RUN", run)
    app = AppTest.from_function(_page, default_timeout=60).run()
    assert not app.exception
    (button,) = app.get("download_button")
    assert button.proto.label == "Report"
    settings = Settings.from_environment()
    text = report_bytes(ReportRequest(names=(run,)), settings).decode()
    assert "2 of 3 recipes are worse than base" in text
    missing = report_bytes(ReportRequest(names=("nothing",)), settings).decode()
    assert "There is no run, card, candidate or imported result" in missing


def test_a_name_becomes_a_file_name() -> None:
    assert file_stem("my run / <b>") == "my-run-b"
    assert file_stem("../..") == "report"
