"""Pages of a run that stopped when it was decided: what was saved, the decisions and the sequence of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from orchestrator.store import Store
from tests.dashboard.test_pages import page
from tests.orchestrator.run.test_decided import Asker, run
from tests.support.decided import ENTRY, decided_plan

pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.fixture
def decided_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    leaving = ENTRY.model_copy(update={"leave": True})
    summary, store = run(tmp_path, decided_plan(6, leaving), Asker())
    store.close()
    yield summary.run_id
    st.cache_resource.clear()


def texts(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.text, *app.subheader]
    return "\n".join(str(part.value) for part in parts)


def test_the_overview_says_what_was_saved(decided_run: str) -> None:
    app = page("overview", run=decided_run).run()
    assert not app.exception
    assert "evaluations stopped early" in texts(app)
    app = page("leaderboard", run=decided_run).run()
    assert not app.exception


def test_the_compare_page_shows_decisions_and_the_sequence(decided_run: str, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.sqlite", read_only=True) as store:
        records = store.sequences(decided_run)
    worse = next(r for r in records if r.early and r.sequence.looks)
    app = page("compare", run=decided_run, cand=str(worse.position)).run()
    assert not app.exception
    assert "Stopped when decided" in texts(app)
    assert f"mergeboard resume {decided_run}" in texts(app).replace("\\", "")
    assert app.get("plotly_chart")


def test_the_job_page_shows_the_decision_and_no_score(decided_run: str, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.sqlite", read_only=True) as store:
        records = store.sequences(decided_run)
    left = next(r for r in records if r.sequence.left)
    app = page("job", run=decided_run, job=left.job_digest).run()
    assert not app.exception
    assert "Stopped early" in texts(app)
    assert "Not asked: BBH decided: worse by" in texts(app)
    assert "Normalized score" not in [metric.label for metric in app.metric]
