"""A race of layer paths of a tiny checkpoint with the real planner, scheduler, store, worker and transformers engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.probes.race import RacePlan
from orchestrator.plan.job import EvalJob
from orchestrator.search import ScanReport
from orchestrator.search.grid_scan import scan_with
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, EvalOutcome
from tests.orchestrator.search.test_grid_scan import at, request, settings_at
from tests.support.tiny_checkpoints import tiny_checkpoint

RACE = RacePlan(keep=2, shares=(0.25, 0.5))


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScanReport]:
    folder = tmp_path_factory.mktemp("race")
    checkpoint = tiny_checkpoint(folder / "tiny", layers=4)
    return folder, scan_with(request(checkpoint, race=RACE, top=2), *at(folder / "home"))


def test_who_leaves_has_no_score_and_who_stays_has_one(raced: tuple[Path, ScanReport]) -> None:
    folder, report = raced
    race = report.race
    assert race is not None
    assert race.n_paths == 11
    assert 2 <= len(race.contenders) <= 11
    assert len(report.table) == len(race.contenders) + 1
    with Store.open(settings_at(folder / "home").database_url) as store:
        jobs = [i.job for i in store.run_jobs(report.run_id) if isinstance(i.job, EvalJob)]
        outcomes = store.outcomes(job.digest for job in jobs)
    parts = [job for job in jobs if job.decide is not None]
    assert all(isinstance(outcomes[job.digest], EarlyOutcome) for job in parts)
    whole = {job.layer_path for job in jobs if isinstance(outcomes[job.digest], EvalOutcome)}
    assert whole == {None, *race.contenders}
