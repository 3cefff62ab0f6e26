"""Comparisons are kept while a run goes on: those of candidates whose evaluations are there, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.suite import load_suite
from orchestrator.cli import app
from orchestrator.compare.family import pairs_of_run
from orchestrator.compare.kept import family_of_run
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.run import comparing
from orchestrator.run.comparing import KeepComparisons
from orchestrator.store import Store
from orchestrator.store.records import RunState
from tests.support.demo_stores import Maker
from tests.support.made_results import Made, block
from tests.support.store_fixtures import store, url

__all__ = ["store", "url"]

SMOKE = load_suite("smoke")
SUITE = SMOKE.model_copy(update={"benchmarks": SMOKE.benchmarks[:2]})
CANDIDATES = (Made("base"), block(12, 14, ability=0.95), block(3, 6, ability=0.4))


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    import time

    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def test_candidates_are_compared_as_their_evaluations_come_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_EVERY_S", 0.0)
    maker = Maker(store, tmp_path, SUITE, n=12)
    lease, planned = maker.create(CANDIDATES)
    run_id = lease.run_id
    with KeepComparisons(store, run_id, tmp_path) as keeper:
        for item in planned[:5]:
            maker.execute(lease, item, CANDIDATES[item.candidates[0]])
            keeper.finished(item.job, store.outcomes([item.job.digest])[item.job.digest])
        assert within(60, lambda: len(store.kept_keys(run_id, 0)) == 1)
        (only,) = store.kept_keys(run_id, 0)
        assert only[0] == 1, "the other one has one of its two evaluations"
        maker.execute(lease, planned[5], CANDIDATES[2])
    keys = store.kept_keys(run_id, 0)
    assert keys == {pair.at: pair.key for pair in pairs_of_run(store.scored_candidates(run_id), 0)}
    assert len(keys) == 2
    family = family_of_run(store, run_id, tmp_path)
    assert family.comparisons() == run_comparisons(results_of_run(store, run_id), tmp_path)


def test_a_run_that_is_broken_off_does_not_wait_for_comparisons(store: Store, tmp_path: Path) -> None:
    maker = Maker(store, tmp_path, SUITE, n=12)
    run_id = maker.run(CANDIDATES)
    with pytest.raises(KeyboardInterrupt), KeepComparisons(store, run_id, tmp_path):
        raise KeyboardInterrupt
    assert len(store.kept_keys(run_id, 0)) < 2


def test_compare_keeps_what_an_earlier_version_left_out_and_unreadable_samples_are_not_kept(
    store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
    maker = Maker(store, tmp_path, SUITE, n=12)
    lease, planned = maker.create(CANDIDATES)
    for item in planned:
        maker.execute(lease, item, CANDIDATES[item.candidates[0]])
    store.finish_run(lease, RunState.DONE)
    spoilt = tmp_path / "samples" / f"{planned[5].job.digest}.parquet"
    samples = spoilt.read_bytes()
    spoilt.write_bytes(b"not the answers")

    def compared() -> list[dict[str, object]]:
        result = CliRunner().invoke(app, ["compare", "--run", lease.run_id, "--json"])
        assert result.exit_code == 0, result.output
        answer: list[dict[str, object]] = json.loads(result.stdout)
        return answer

    first = compared()
    assert {position for position, _ in store.kept_keys(lease.run_id, 0)} == {1}
    spoilt.write_bytes(samples)
    second = compared()
    assert first != second
    assert {position for position, _ in store.kept_keys(lease.run_id, 0)} == {1, 2}
    assert compared() == second, "read from the store"
