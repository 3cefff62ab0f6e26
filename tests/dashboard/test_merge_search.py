"""The page of a search over merges, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from orchestrator.store import Store
from tests.dashboard.test_pages import page
from tests.support.merge_view import merge_store, merge_view
from tests.support.store_data import demo_run

pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    yield
    st.cache_resource.clear()


@pytest.mark.parametrize("real", [True, False])
def test_the_verdict_stands_above_its_tables(home: Path, real: bool) -> None:
    app = page("merge_search", run=merge_store(home, merge_view(real=real))).run()
    assert not app.exception, app.exception
    said = [box.value for box in (*app.success, *app.info)]
    assert len(app.success) == real
    assert ("beats every parent" if real else "No merge here beats its better parent") in said[0]
    confirmation, merges = (frame.value for frame in app.dataframe)
    assert confirmation["finding"].tolist()[0] == ("real" if real else "not confirmed")
    assert len(merges) == 3 + 18
    assert "1 without a value" in app.caption[0].value or any(
        "1 without a value" in c.value for c in app.caption
    )
    assert app.selectbox(key="chart").options[0] == "Best against cost"


def test_the_overview_says_the_same(home: Path) -> None:
    """On a store with a search over merges it said that the confirmation has no result."""
    app = page("overview", run=merge_store(home, merge_view())).run()
    assert not app.exception, app.exception
    assert "beats every parent" in app.success[0].value
    assert "confirmation has no result" not in "\n".join(part.value for part in app.markdown)


def test_a_search_that_goes_on_shows_its_trials(home: Path) -> None:
    app = page("merge_search", run=merge_store(home, merge_view(confirmed=False), ended=False)).run()
    assert not app.exception, app.exception
    assert "nothing is confirmed yet" in app.info[0].value
    assert len(app.dataframe) == 1


def test_another_run_is_told_apart(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    run, candidates, planned = demo_run("a sweep")
    with Store.open(f"sqlite:///{home}/store.sqlite") as store:
        store.create_run(run, candidates, planned)
    app = page("merge_search", run=run.id).run()
    assert not app.exception, app.exception
    assert "No search over merges" in "\n".join(
        part.value for part in (*app.markdown, *app.header, *app.subheader)
    )
