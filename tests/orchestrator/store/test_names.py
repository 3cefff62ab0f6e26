"""Names as people have them: long, of the hub, in any script; few, many and very many candidates, on both databases."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orchestrator.compare.run_comparisons import results_of_run
from orchestrator.errors import StoreError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.leaderboard import LeaderboardQuery, SortKey
from orchestrator.store.records import AttemptRecord, CandidateRecord, PlannedJob
from tests.support.claim_data import card_record, imported_result, imported_run, reproduction
from tests.support.store_data import (
    HUB_BASE,
    UNUSUAL_NAMES,
    candidate,
    candidate_name,
    eval_job,
    eval_outcome,
    new_run,
)


def long_sweep(n: int) -> tuple[list[CandidateRecord], list[PlannedJob]]:
    """A base of the hub and n - 1 layer paths of it, one benchmark each."""
    blocks = ((*range(j), *range(i, 80)) for j in range(80) for i in range(80) if i != j)
    paths = [None, *itertools.islice(blocks, n - 1)]
    candidates = [candidate(position, path) for position, path in enumerate(paths)]
    planned = [PlannedJob(job=eval_job("bbh", path), candidates=(p,)) for p, path in enumerate(paths)]
    return candidates, planned


# Below and above the number from which PostgreSQL takes whole columns at once.
@pytest.mark.parametrize("n", [2, 16, 17, 40, 1100])
def test_every_candidate_of_a_hub_checkpoint_keeps_its_identity_and_its_scores(store: Store, n: int) -> None:
    candidates, planned = long_sweep(n)
    run = new_run()
    store.create_run(run, candidates, planned, owner="me")
    assert store.candidates(run.id) == tuple(candidates)
    assert store.run_jobs(run.id) == tuple(planned)
    lease = store.take_lease(run.id, "me")
    assert lease is not None
    scored = [0, 1, n - 1] if n > 40 else range(n)
    for position in dict.fromkeys(scored):
        job = planned[position].job
        attempt = store.start_attempt(lease, job.digest)
        assert isinstance(attempt, AttemptRecord)
        assert isinstance(job, EvalJob)
        store.finish_attempt(attempt.id, eval_outcome(job, value=position / n))
    results = results_of_run(store, run.id)
    assert [r.candidate.position for r in results] == sorted(set(scored))
    assert all(job.weights_digest == HUB_BASE for r in results for job, _ in r.evaluated)
    digests = [item.job.digest for item in planned]
    assert store.done(digests) == {digests[position] for position in scored}
    assert len(store.find_candidates(HUB_BASE)) == min(n, 20)
    assert [c.candidate.position for c in store.find_candidates(candidate_name(n - 1))] == [n - 1]
    best = LeaderboardQuery(run_id=run.id, sort=SortKey.MEAN, descending=True, limit=1)
    assert store.leaderboard(best).rows[0].candidate.position == n - 1


def test_names_in_any_script_of_any_length_come_back_and_are_found(store: Store) -> None:
    run = new_run("".join(UNUSUAL_NAMES), sweep=UNUSUAL_NAMES[1])
    names = ["base", *UNUSUAL_NAMES, *(f"{name} {number}" for number, name in enumerate(UNUSUAL_NAMES))]
    candidates = [
        candidate(position, name=name, recipe=name, weights_digest=f"{HUB_BASE}{name}")
        for position, name in enumerate(names)
    ]
    planned = [
        PlannedJob(
            job=eval_job(name).model_copy(update={"suite": name, "weights_digest": f"{HUB_BASE}{name}"}),
            candidates=(position,),
        )
        for position, name in enumerate(names)
    ]
    store.create_run(run, candidates, planned)
    assert store.run(run.id).name == run.name
    assert store.candidates(run.id) == tuple(candidates)
    assert store.run_jobs(run.id) == tuple(planned)
    for record in candidates:
        assert [m.candidate for m in store.find_candidates(record.name)] == [record]
        # What a person types is text, never a pattern.
        page = store.leaderboard(LeaderboardQuery(run_id=run.id, search=record.name, limit=100))
        assert [r.candidate.name for r in page.rows] == [n for n in names if record.name.lower() in n.lower()]
    by_name = store.leaderboard(LeaderboardQuery(run_id=run.id, sort=SortKey.NAME, limit=100))
    assert [r.candidate.name for r in by_name.rows] == sorted(names)


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("the sweep's name", {"name": "a\0b"}),
        ("the name of candidate 3", {"name": "x\0"}),
        ("the weights of candidate 3", {"weights_digest": "org/\ud800@abc"}),
        ("the recipe of candidate 3", {"recipe": "\0"}),
    ],
)
def test_text_that_no_database_takes_is_refused_in_a_sentence(
    store: Store, where: str, change: dict[str, str]
) -> None:
    run = new_run(**(change if "sweep" in where else {}))
    candidates = [candidate(p, None, **(change if p == 3 and "sweep" not in where else {})) for p in range(5)]
    with pytest.raises(StoreError, match=f"{where} holds a character, .*, that no database can store"):
        store.create_run(run, candidates, [])
    assert store.runs() == ()


def test_a_sweep_of_the_hub_is_the_same_in_both_databases(url: str, tmp_path: Path) -> None:
    candidates, planned = long_sweep(40)
    run = new_run()
    snapshots = []
    for each in (url, f"sqlite:///{tmp_path / 'other.sqlite'}"):
        with Store.open(each) as store:
            store.create_run(run, candidates, planned, owner="me")
            lease = store.take_lease(run.id, "me")
            assert lease is not None
            for item in planned:
                attempt = store.start_attempt(lease, item.job.digest)
                assert isinstance(attempt, AttemptRecord)
                assert isinstance(item.job, EvalJob)
                store.finish_attempt(attempt.id, eval_outcome(item.job))
            snapshots.append(store.snapshot())
    assert snapshots[0] == snapshots[1]


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_imports_cards_and_verdicts_take_any_name(store: Store, name: str) -> None:
    run = imported_run(checkpoint=name, source=name, revision=name)
    store.put_import(run, [imported_result(suite=name)])
    assert [found.checkpoint for found in store.find_imports(name)] == [name]
    assert store.imported_results([run.id])[run.id][0].suite == name
    card = card_record().model_copy(update={"name": name, "checkpoint": name, "source": name, "text": name})
    store.put_card(card)
    assert store.card(card.id).model_copy(update={"imported_at": None}) == card
    store.put_reproduction(reproduction(candidate=name))
    assert [found.candidate for found in store.reproductions(card.id)] == [name]
