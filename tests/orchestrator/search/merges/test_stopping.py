"""A merge that is shown to be worse than the best one before it is asked no further questions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.search.merges.course import best_first
from orchestrator.search.merges.search_file import SearchFile
from orchestrator.search.merges.tables import merge_search_text
from orchestrator.store import Store
from orchestrator.store.merge_report import SearchView
from orchestrator.store.trial_records import TrialState
from tests.orchestrator.search.merges.test_merge_run import file_in, folder, searched, table_of
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.simulated_stops import StoppingSimulation

__all__ = ["folder"]

CHANGES = {
    "objectives: [emotion-easy-scored]": "objectives: [{suite: smoke, benchmarks: [bbh], limit: 90, confirm_limit: 98}]\nstop: true",
    "budget: {evaluations: 12}": "budget: {evaluations: 16}",
    "compare_with: [random]\n": "",
    "parallel: 3": "parallel: 2",
}


def spread(weights: Mapping[str, float]) -> float:
    """Best at equal shares of the specialists, far worse elsewhere."""
    first, second = weights.get("first", 0.0), weights.get("second", 0.0)
    return max(0.05, 0.95 - 2.5 * ((first - 0.5) ** 2 + (second - 0.4) ** 2) ** 0.5)


@pytest.fixture(scope="module")
def undisturbed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchFile, Path, SearchView, StoppingSimulation]:
    file, home = file_in(folder, "stops.yaml", **CHANGES), tmp_path_factory.mktemp("undisturbed")
    simulation = StoppingSimulation(spread, folder / "base")
    return file, home, searched(file, home, simulation), simulation


def test_losers_are_asked_less_and_have_no_score(
    undisturbed: tuple[SearchFile, Path, SearchView, StoppingSimulation],
) -> None:
    file, home, view, simulation = undisturbed
    stopped = [t for t in view.trials if t.state is TrialState.STOPPED]
    whole = [t for t in view.trials if t.state is TrialState.COMPLETE]
    assert len(stopped) + len(whole) == 16
    assert len(stopped) >= 3
    with Store.open(settings_at(home).database_url) as store:
        jobs = [i.job for i in store.run_jobs(view.report.run_id) if i.job.kind == "eval"]
        assert store.sequences(view.report.run_id) == (), (
            "they are compared with each other, not with the base"
        )
        savings = store.savings(view.report.run_id)
    assert savings is not None
    assert savings.early >= len(stopped)
    asked = {job.weights_digest: simulation.asked[job.digest] for job in jobs}
    best = best_first(file.search, view.trials)[0]
    for trial in stopped:
        assert trial.objectives is None
        assert asked[trial.recipe_digest or ""] < 90
        assert len(trial.steps) == 1
        assert "worse by" in (trial.message or "")
        assert trial.steps[0][0] < file.search.together(best.objectives or ())
        assert f"{trial.candidate} " not in merge_search_text(view)
    assert all(asked[t.recipe_digest or ""] == 90 for t in whole), "one that is better is asked the rest"
    # What is compared is known from the trials before, and is whole.
    against = {job.decide.against for job in jobs if job.decide is not None}
    by_digest = {job.digest: job for job in jobs}
    assert all(simulation.asked[digest] == 90 for digest in against)
    assert {by_digest[d].weights_digest for d in against} <= {t.recipe_digest for t in whole}


def test_killed_and_in_another_order_the_same_merges_stop(
    folder: Path, tmp_path: Path, undisturbed: tuple[SearchFile, Path, SearchView, StoppingSimulation]
) -> None:
    file, _, view, _ = undisturbed
    kills = set(random.Random(2).sample(range(5, 70), 5))
    simulation = StoppingSimulation(spread, folder / "base", kills=kills, order=random.Random(3))
    disturbed = searched(file, tmp_path, simulation)
    assert simulation.moment > max(kills)
    assert table_of(disturbed) == table_of(view)
    assert [(t.steps, t.message) for t in disturbed.trials] == [(t.steps, t.message) for t in view.trials]
    assert disturbed.report.conclusion == view.report.conclusion


@pytest.mark.parametrize(
    "objectives",
    [
        "[emotion-easy-scored]",
        "[{suite: smoke, limit: 4}]",
        "[{suite: smoke, benchmarks: [bbh, musr], limit: 4}]",
        "[{suite: smoke, benchmarks: [bbh], limit: 4}, emotion-easy-scored]",
    ],
)
def test_with_several_benchmarks_none_is_stopped(folder: Path, objectives: str) -> None:
    with pytest.raises(SweepError, match="one objective with one of `benchmarks`"):
        file_in(
            folder,
            "several.yaml",
            **{"objectives: [emotion-easy-scored]": f"objectives: {objectives}\nstop: true"},
        )
