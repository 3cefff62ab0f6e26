"""The memory of a search over merge parameters: trials join their run in one transaction, and only its driver adds them."""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.records import RunLease, RunState
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from tests.support.store_data import demo_run

TRIAL = TrialRecord(
    number=0,
    arm=Arm.SEARCH,
    parameters={"w": 0.25, "method": "ties", "n": 3, "on": True},
    candidate="trial 0",
)


def begun(store: Store) -> tuple[RunLease, TrialRecord]:
    """A search whose run holds the base alone, and its first trial, stored with the run's second candidate."""
    run, candidates, planned = demo_run("search")
    of_base = [item.model_copy(update={"candidates": (0,)}) for item in planned if 0 in item.candidates]
    store.create_run(run, candidates[:1], of_base)
    first = store.begin_search(run.id, "name: s", "/somewhere", 2)
    assert store.begin_search(run.id, "name: other", "/elsewhere", 3) == first
    lease = store.take_lease(run.id, "me")
    assert lease is not None
    of_trial = [item for item in planned if 1 in item.candidates]
    for _ in range(2):
        assert store.add_trial(lease, TRIAL, candidates[1], of_trial)
    return lease, TRIAL


def test_a_trial_joins_its_run_once(store: Store) -> None:
    lease, trial = begun(store)
    assert store.trials(lease.run_id) == (trial,)
    assert [c.position for c in store.candidates(lease.run_id)] == [0, 1]
    jobs = store.run_jobs(lease.run_id)
    assert len({item.job.digest for item in jobs}) == len(jobs)
    assert {position for item in jobs for position in item.candidates} == {0, 1}
    search = store.search(lease.run_id)
    assert search is not None
    assert (search.text, search.folder, search.parallel, search.report) == ("name: s", "/somewhere", 2, None)
    assert [found.run_id for found in store.searches()] == [lease.run_id]
    assert store.search("another") is None


def test_a_trial_ends_once(store: Store) -> None:
    lease, trial = begun(store)
    ended = trial.model_copy(
        update={
            "state": TrialState.COMPLETE,
            "objectives": (0.1, 1 / 3),
            "cost_s": 1.5,
            "recipe_digest": None,
        }
    )
    assert store.end_trial(lease, ended)
    assert store.end_trial(lease, ended.model_copy(update={"objectives": (9.0, 9.0)}))
    assert store.trials(lease.run_id) == (ended,)


def test_who_lost_the_run_adds_nothing(store: Store) -> None:
    lease, trial = begun(store)
    store.finish_run(lease, RunState.DONE)
    assert not store.add_trial(lease, trial.model_copy(update={"number": 1}))
    assert not store.end_trial(lease, trial.model_copy(update={"state": TrialState.FAILED, "message": "no"}))
    assert store.trials(lease.run_id) == (trial,)


def test_a_search_keeps_its_report(store: Store) -> None:
    lease, _ = begun(store)
    store.keep_search_report(lease.run_id, "{}")
    search = store.search(lease.run_id)
    assert search is not None
    assert search.report == "{}"
