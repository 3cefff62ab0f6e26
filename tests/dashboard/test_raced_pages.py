"""Pages of a run whose candidates raced: who left, where, and what was saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from evals.stats.candidate_race import CandidateRace
from orchestrator.compare.candidate_races import candidate_race_of
from tests.dashboard.test_decided_pages import texts
from tests.dashboard.test_pages import page
from tests.support.raced import Racer, raced_plan, run_race

pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.fixture
def raced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, CandidateRace, dict[str, int]]]:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    summary, store = run_race(tmp_path, raced_plan(6), Racer())
    race = candidate_race_of(store, store.run(summary.run_id))
    positions = {c.name: c.position for c in store.candidates(summary.run_id)}
    store.close()
    assert race is not None
    assert race.left
    yield summary.run_id, race, positions
    st.cache_resource.clear()


def test_pages_say_who_left_and_what_was_saved(
    raced: tuple[str, CandidateRace, dict[str, int]],
) -> None:
    run_id, race, positions = raced
    app = page("overview", run=run_id).run()
    assert not app.exception
    shown = texts(app)
    assert "Race for the best 2" in shown
    assert race.sentence.replace("(", "") in shown.replace("\\", "").replace("(", "")
    app = page("leaderboard", run=run_id).run()
    assert not app.exception
    left, _ = race.left[0]
    app = page("compare", run=run_id, cand=str(positions[left.name])).run()
    assert not app.exception
    shown = texts(app)
    assert "Left the race" in shown
    assert "left the race for the best 2 after" in shown
