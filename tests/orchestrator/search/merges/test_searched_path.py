"""Layers searched together with the numbers of a merge: what is accepted, what is planned, and the winner's recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.search.merges.files import write_winner
from orchestrator.search.merges.run import run_merge_search
from orchestrator.search.merges.search_file import SearchFile, load_search, parse_search
from orchestrator.store import Store
from orchestrator.store.merge_report import SearchView
from recipes.recipe import Recipe
from tests.orchestrator.search.merges.test_merge_run import ground_of, peak, searched
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.simulated_merges import Simulation
from tests.support.tiny_checkpoints import tiny_checkpoint

TEXT = """\
name: both
base: base
recipe:
  merge_method: linear
  dtype: float32
  models:
    - {model: ./base, parameters: {weight: {search: [0.1, 1]}}}
    - {model: ./first, parameters: {weight: 0.5}}
layer_path: {block: BLOCK}
objectives: [emotion-easy-scored]
budget: {evaluations: 8}
sampler: random
engine: {kind: transformers, dtype: float32}
confirm: {keep: 2}
"""
BOTH = "[{search: [0, 2]}, {choices: [1, 4]}]"


def parse(block: str, **changes: str) -> SearchFile:
    text = TEXT.replace("BLOCK", block)
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse_search(text.encode(), origin="s.yaml", folder=Path("."))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parents")
    for seed, name in enumerate(("base", "first")):
        tiny_checkpoint(root / name, layers=4, hidden=32, seed=seed, dtype="float32")
    (root / "search.yaml").write_text(TEXT.replace("BLOCK", BOTH))
    (root / "deep.yaml").write_text(TEXT.replace("BLOCK", "[1, {search: [3, 9]}]"))
    return root


def test_ends_of_a_block_are_parameters_like_weights() -> None:
    file = parse(BOTH)
    assert file.space.names == ("models.0.parameters.weight", "block start", "block end")
    assert file.space.parameters[1].is_integer
    values = {"models.0.parameters.weight": 0.3, "block start": 1, "block end": 4}
    assert file.entry("x", values)["layer_path"] == "(1, 4)"
    assert file.entry("x", values)["mergekit"]["models"][0]["parameters"]["weight"] == 0.3
    assert "layer_path" not in file.entry("x", values | {"block end": 1}), "an empty block"
    assert parse("[1, 3]").space.names == ("models.0.parameters.weight",)
    alone = parse("[{search: [0, 2]}, {search: [2, 4], name: end}]", **{"{search: [0.1, 1]}": "0.5"})
    assert alone.space.names == ("block start", "end")
    assert (
        alone.entry("x", {"block start": 0, "end": 3})["mergekit"]["models"][0]["parameters"]["weight"] == 0.5
    )
    assert parse("[1, 3]").search.identity != parse("[1, 4]").search.identity


@pytest.mark.parametrize(
    "block",
    ["[{search: [0, 2.5]}, 3]", "[-1, 3]", "[{search: [0, 2], points: 2}, 3]", "[{serch: [0, 1]}, 2]", "[{choices: [a, b]}, 2]", "[1]", "{a: 1}"],
)  # fmt: skip
def test_what_is_no_layer_is_refused_in_one_sentence(block: str) -> None:
    with pytest.raises(SweepError, match=r"^s\.yaml:9: layer_path\.block") as caught:
        parse(block)
    assert "\n" not in str(caught.value)


def test_a_block_beyond_the_base_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    simulation = Simulation(peak, folder / "base")
    settings = settings_at(tmp_path)
    with pytest.raises(SweepError, match=r"layer_path\.block: it ends at 9, and base has 4 layers"):
        run_merge_search(
            load_search(folder / "deep.yaml"), settings, silently, ground_of(settings, simulation)
        )
    assert simulation.evaluated == []


def check(view: SearchView, file: SearchFile, home: Path) -> None:
    """Every merge ran live with its path, and the winner's recipe holds it."""
    trials = view.trials
    assert all(t.objectives is not None for t in trials)
    assert len({t.recipe_digest for t in trials}) == len({str(t.parameters) for t in trials}) == 8
    with Store.open(settings_at(home).database_url) as store:
        jobs = [i.job for i in store.run_jobs(view.report.run_id)]
        confirmed = [i.job for i in store.run_jobs((view.report.confirmation or pytest.fail("none")).run_id)]
    assert all(job.kind == "eval" for job in (*jobs, *confirmed)), "nothing is built"
    with_path = [job for job in jobs if job.kind == "eval" and job.live_layers is not None]
    blocks = {file.block(t.parameters) for t in trials} - {None}
    assert {len(job.live_layers or ()) for job in with_path} == {4 + j - i for i, j in filter(None, blocks)}
    assert all(job.live_merge for job in with_path)
    hosts = [job for job in jobs if job.kind == "eval" and job.engine_key == with_path[0].engine_key]
    assert {job.tuning.extra_layer_slots for job in hosts} == {4}, "one engine fits all that may be proposed"
    winner = Recipe.load(write_winner(file, view, home))
    block = file.block(trials[view.report.winner or 0].parameters)
    added = block[1] - block[0] if block else 0
    assert winner.n_layers({str(source): 4 for source in winner.sources}) == 4 + added


def test_merges_and_blocks_are_searched_together(folder: Path, tmp_path: Path) -> None:
    file = load_search(folder / "search.yaml")
    check(searched(file, tmp_path, Simulation(peak, folder / "base")), file, tmp_path)


@pytest.mark.slow
def test_merges_and_blocks_are_searched_together_in_a_real_engine(folder: Path, tmp_path: Path) -> None:
    file, settings = load_search(folder / "search.yaml"), settings_at(tmp_path)
    view = run_merge_search(file, settings, silently, ground_here(settings))
    check(view, file, tmp_path)
    assert len({t.objectives for t in view.trials}) > 4
