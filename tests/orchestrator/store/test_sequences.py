"""Looks and early stops in both databases."""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.records import Acceptance, CandidateRecord, EarlyOutcome, PlannedJob
from tests.support.decided import N, asked_until_decided, decided_plan
from tests.support.store_data import eval_outcome, new_run
from tests.support.store_work import started


def test_an_early_stop_comes_back_as_it_was_and_is_no_score(store: Store) -> None:
    plan = decided_plan(4)
    candidates = [
        CandidateRecord(
            position=n,
            name=c.name,
            is_base=c.is_base,
            weights_digest=c.weights_digest,
            layer_path=c.layer_path,
            layers=c.layers,
        )
        for n, c in enumerate(plan.candidates)
    ]
    position = {c.name: n for n, c in enumerate(plan.candidates)}
    planned = [PlannedJob(job=e.job, candidates=(position[e.candidate],)) for e in plan.evals]
    run = new_run("decided")
    store.create_run(run, candidates, planned, owner="me")
    lease = store.take_lease(run.id, "me")
    assert lease is not None
    assert store.savings(run.id) is None
    given = {}
    for item in planned:
        attempt = started(store, lease, item.job.digest)
        job = plan.jobs[item.job.digest]
        assert item.job == job
        given[job.digest] = (
            eval_outcome(item.job) if item.job.decide is None else asked_until_decided(item.job)
        )
        assert store.finish_attempt(attempt.id, given[job.digest]) is Acceptance.ACCEPTED
    early = {digest: outcome for digest, outcome in given.items() if isinstance(outcome, EarlyOutcome)}
    assert early
    assert store.outcomes(given) == given
    assert store.evaluations(early) == {}
    assert store.progress(run.id).done == len(given)
    records = store.sequences(run.id, candidate=1)
    assert records == store.sequences(run.id)
    assert {r.job_digest: r.sequence for r in records if r.early} == {
        digest: outcome.early.sequence for digest, outcome in early.items()
    }
    assert store.sequences(run.id, candidate=0) == ()
    saved = store.savings(run.id)
    assert saved is not None
    assert (saved.early, saved.whole) == (len(early), N * len(records))
    assert 0 < saved.share < 1
    errors = store.latest_errors(10)
    assert {(suite, benchmark) for suite, benchmark, _, _ in errors} <= {
        ("smoke", "bbh"),
        ("smoke", "ifeval"),
    }
    assert all(n > 0 and error > 0 for _, _, n, error in errors if error)
    assert store.latest_comparisons(10) == ()
