"""Pages of a run whose candidates raced: who left, where, and what was saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from dashboard import data
from dashboard.races import candidate_race_shown
from evals.stats.candidate_race import CandidateRace
from orchestrator.compare.candidate_races import candidate_race_of
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import Failure, FailureClass, RunState
from tests.dashboard.test_decided_pages import texts
from tests.dashboard.test_pages import page
from tests.support.raced import RULE, Racer, raced_plan, run_race
from tests.support.store_data import eval_job
from tests.support.store_work import driven, started

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
    assert "Early differences are without the floor at the lower bound" in shown
    assert race.sentence.replace("(", "") in shown.replace("\\", "").replace("(", "")
    app = page("leaderboard", run=run_id).run()
    assert not app.exception
    left, _ = race.left[0]
    app = page("compare", run=run_id, cand=str(positions[left.name])).run()
    assert not app.exception
    shown = texts(app)
    assert "Left the race" in shown
    assert "left the race for the best 2 after" in shown


def test_a_race_that_goes_on_after_its_end_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled run is resumed and ends: its pages do not show the race from before for an hour."""
    reads: list[str] = []
    monkeypatch.setattr("dashboard.races._candidate_race", lambda _, run_id: reads.append(run_id))
    monkeypatch.setattr("dashboard.races.race_rule_of", lambda _: RULE)
    url = f"sqlite:///{tmp_path}/store.sqlite"
    with Store.open(url) as store, Pages.open(url, create=False, read_only=True) as pages:
        lease = driven(store)
        for state in (RunState.CANCELLED, RunState.CANCELLED, RunState.DONE):
            assert store.finish_run(lease, state)
            for _ in range(2):
                data._live.clear()
                candidate_race_shown(pages, lease.run_id)
            resumed = store.take_lease(lease.run_id, "me", reopen=True)
            assert resumed is not None
            lease = resumed
    assert reads == [lease.run_id] * 3
    st.cache_resource.clear()


def test_the_overview_tells_what_is_built_and_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of an earlier run is told too; a refused job without a result is a failure once the run has ended."""
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    refused = Failure(failure_class=FailureClass.PATH_REFUSED, message="Layer 3 has no halves.")
    note = "Layer paths that the engine refuses to run live are built as checkpoints instead: Layer 3 has no halves."
    with Store.open(f"sqlite:///{tmp_path}/store.sqlite") as store:
        lease, later = driven(store), driven(store, name="later")
        attempt = started(store, lease, eval_job(layer_path=(0, 1, 2, 1, 2, 3)).digest)
        store.fail_attempt(attempt.id, refused, will_retry=True)
        before, other = (texts(page("overview", run=run.run_id).run()) for run in (lease, later))
        store.finish_run(lease, RunState.FAILED)
    st.cache_resource.clear()
    after = texts(page("overview", run=lease.run_id).run())
    st.cache_resource.clear()
    assert [shown.count(note) for shown in (before, other, after)] == [1, 1, 1]
    failed = ["What failed, and what to do" in shown for shown in (before, other, after)]
    assert failed == [False, False, True]
