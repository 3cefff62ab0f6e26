"""A whole search over merges, simulated but for the engine: planned optimum, kills at any moment, the honest end, files, command."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from evals.probes import Finding
from orchestrator import cli
from orchestrator.errors import RunError
from orchestrator.plan.capacity import this_machine
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run import run as runs
from orchestrator.run.run import GrowingRun, register, stored_plan
from orchestrator.run.scheduler import Reporter, RunSummary, Scheduler
from orchestrator.search.grid_scan import Ground
from orchestrator.search.merges.files import write_merge_search
from orchestrator.search.merges.run import run_merge_search
from orchestrator.search.merges.search_file import SearchFile, load_search
from orchestrator.search.merges.tables import merge_search_text
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.merge_report import SearchView
from orchestrator.store.trial_records import Arm, TrialState
from recipes.recipe import Recipe
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import silently
from tests.support.simulated_merges import Killed, SimulatedExecutor, Simulation
from tests.support.tiny_checkpoints import tiny_checkpoint

TEXT = """\
name: planted
base: base
recipe:
  merge_method: linear
  dtype: float32
  parameters: {normalize: true}
  models:
    - {model: ./base, parameters: {weight: {search: [0, 1]}}}
    - {model: ./first, parameters: {weight: {search: [0, 1]}}}
    - {model: ./second, parameters: {weight: {search: [0, 1]}}}
objectives: [emotion-easy-scored]
budget: {evaluations: 12}
sampler: cma-es
engine: {kind: transformers, dtype: float32}
compare_with: [random]
parallel: 3
confirm: {keep: 3}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parents")
    for seed, name in enumerate(("base", "first", "second")):
        tiny_checkpoint(root / name, layers=1, hidden=32, seed=seed)
    return root


def file_in(folder: Path, name: str = "search.yaml", **changes: str) -> SearchFile:
    text = TEXT
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return load_search(folder / name)


def peak(weights: Mapping[str, float]) -> float:
    """Best where both specialists share; each alone is far from it."""
    first, second = weights.get("first", 0.0), weights.get("second", 0.0)
    return 0.9 - 1.2 * ((first - 0.5) ** 2 + (second - 0.4) ** 2) ** 0.5


def at_parent(weights: Mapping[str, float]) -> float:
    """Best at the second parent itself."""
    return 0.8 - 0.5 * (1 - weights.get("second", 0.0))


def ground_of(settings: Settings, simulation: Simulation) -> Ground:
    def run(plan: Plan, reporter: Reporter, grows: GrowingRun | None = None) -> RunSummary:
        with Store.open(settings.database_url) as store:
            run_id = register(store, plan, run_id=grows.run_id if grows else None)
            additions = grows.begin(store) if grows else None
            scheduler = Scheduler(
                store, plan, run_id=run_id, settings=settings, reporter=reporter, additions=additions
            )
            return scheduler.nothing_to_do() or scheduler.run(simulation.executor(settings))

    return Ground(lambda file: make_plan(file, settings), run, run, this_machine())


def searched(file: SearchFile, home: Path, simulation: Simulation) -> SearchView:
    """The search to its end, begun again after each kill."""
    settings = settings_at(home)
    while True:
        with contextlib.suppress(Killed):
            return run_merge_search(file, settings, silently, ground_of(settings, simulation))


def table_of(view: SearchView) -> list[object]:
    """The final table: all but what depends on the clock."""
    return [(t.number, t.arm, t.parameters, t.recipe_digest, t.state, t.objectives) for t in view.trials]


@pytest.fixture(scope="module")
def undisturbed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchFile, Path, SearchView]:
    file, home = file_in(folder), tmp_path_factory.mktemp("undisturbed")
    return file, home, searched(file, home, Simulation(peak, folder / "base"))


def test_a_merge_that_is_better_than_every_parent_is_confirmed(
    undisturbed: tuple[SearchFile, Path, SearchView],
) -> None:
    _, _, view = undisturbed
    report = view.report
    assert [r.name for r in report.references] == ["base", "first", "second", "plain average"]
    assert {arm: sum(t.arm is arm for t in view.trials) for arm in Arm} == {
        Arm.SEARCH: 12,
        Arm.RANDOM: 12,
        Arm.GRID: 0,
    }
    c = report.confirmation
    assert c is not None
    assert c.n_tried == 24
    assert len([m for m in c.merges if m.arm is Arm.SEARCH]) == 3
    assert [m.arm for m in c.merges][-1] is Arm.RANDOM
    winning = report.winning
    assert winning is not None
    assert winning.finding is Finding.REAL
    assert all(gain.delta > 0 for gain in winning.gains.values())
    assert "beat every parent after the correction for all of them" in report.conclusion
    assert sum(report.importance.values()) == pytest.approx(1.0)


def test_killed_at_ten_moments_nothing_is_lost_or_done_twice(
    folder: Path, undisturbed: tuple[SearchFile, Path, SearchView], tmp_path: Path
) -> None:
    file, _, view = undisturbed
    kills = set(random.Random(3).sample(range(5, 100), 10))
    simulation = Simulation(peak, folder / "base", kills=kills, order=random.Random(7))
    disturbed = searched(file, tmp_path, simulation)
    assert simulation.moment > max(kills)
    assert table_of(disturbed) == table_of(view)
    assert disturbed.report.conclusion == view.report.conclusion
    with Store.open(settings_at(tmp_path).database_url) as store:
        assert store.run(view.report.run_id).state.value == "done"
        jobs = [item.job for item in store.run_jobs(view.report.run_id)]
        evaluated = {job.digest for job in jobs if job.kind == "eval"}
    counts = [simulation.evaluated.count(digest) for digest in evaluated]
    # A result that the executor handed over and nobody stored is evaluated again; a stored one never.
    assert sum(counts) - len(counts) <= len(kills)
    again = searched(file, tmp_path, simulation)
    assert again == disturbed
    assert [simulation.evaluated.count(digest) for digest in evaluated] == counts


def test_no_merge_beats_its_better_parent_is_a_result(folder: Path, tmp_path: Path) -> None:
    file = file_in(folder, "parent.yaml", **{"compare_with: [random]\n": ""})
    view = searched(file, tmp_path, Simulation(at_parent, folder / "base"))
    assert view.report.conclusion.startswith(
        "No merge here beats its better parent, second: of the 3 best of 12 merges none"
    )
    text = merge_search_text(view)
    assert "No merge here beats its better parent" in text
    assert "real ▲" not in text


def test_merges_that_cannot_be_built_are_told_and_the_search_goes_on(folder: Path, tmp_path: Path) -> None:
    def fragile(weights: Mapping[str, float]) -> float | None:
        return None if weights.get("first", 0.0) > 0.5 and len(weights) == 3 else peak(weights)

    file = file_in(folder, "fragile.yaml", **{"compare_with: [random]\n": "", "cma-es": "random"})
    view = searched(file, tmp_path, Simulation(fragile, folder / "base"))
    failed = [trial for trial in view.trials if trial.state is TrialState.FAILED]
    assert failed
    assert failed[0].message == "Its weights do not add up."
    assert f"{len(failed)} of 12 merges have no value" in merge_search_text(view)


def test_a_search_in_which_no_merge_can_be_built_stops_with_the_reason(folder: Path, tmp_path: Path) -> None:
    file = file_in(folder, "hopeless.yaml", **{"parallel: 3\n": ""})
    simulation = Simulation(lambda weights: None if len(weights) == 3 else 0.5, folder / "base")
    with pytest.raises(RunError, match="all failed, so that it stops: Its weights do not add up"):
        searched(file, tmp_path, simulation)


def test_its_files_hold_the_winner_and_the_pictures(
    undisturbed: tuple[SearchFile, Path, SearchView], folder: Path, tmp_path: Path
) -> None:
    file, _, view = undisturbed
    written = {path.name for path in write_merge_search(file, view, tmp_path)}
    assert written == {
        "winner.yaml", "search.html", "report.txt", "progress.png", "parameters.png", "importance.png", "trials.csv", "report.json",
    }  # fmt: skip
    winner = Recipe.load(tmp_path / "winner.yaml")
    assert {source.name for source in winner.sources} == {
        str(folder / n) for n in ("base", "first", "second")
    }
    assert SearchView.model_validate_json((tmp_path / "report.json").read_text()) == view
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 25


def test_the_run_of_a_search_is_resumed_by_its_file(undisturbed: tuple[SearchFile, Path, SearchView]) -> None:
    _, home, view = undisturbed
    with pytest.raises(RunError, match="run `mergeboard search` with its file again"):
        stored_plan(view.report.run_id, settings_at(home))


def test_the_command(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file_in(folder, "command.yaml", **{"compare_with: [random]\n": "", "evaluations: 12": "evaluations: 6"})
    simulation = Simulation(peak, folder / "base")
    monkeypatch.setattr(runs, "usable_nodes", lambda settings, address: this_machine())
    monkeypatch.setattr(runs, "disconnect", lambda: None)
    monkeypatch.setattr(
        runs, "RayExecutor", lambda settings, *_, **__: SimulatedExecutor(settings, simulation)
    )

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    path = str(folder / "command.yaml")
    code, out, err = call("search", path, "--quiet")
    assert (code, err) == (0, "")
    assert "beat every parent" in out
    assert "Build it: mergeboard build " in out
    code, out, _ = call("search", path, "--quiet", "--json")
    assert code == 0
    assert Path(json.loads(out)["files"][0]).name == "winner.yaml"
    code, out, err = call("search", path, "--width", "4")
    assert code == 2
    assert "--width is about layer paths" in err
    code, out, err = call("run", path)
    assert code == 2
    assert "is a search over merges, not a sweep: `mergeboard search " in err
    code, out, err = call("search", str(folder / "none.yaml"))
    assert code == 2
    assert "none.yaml" in err
