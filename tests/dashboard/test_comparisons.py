"""The pages and `mergeboard compare` come to the same records for the same pairs, without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from typer.testing import CliRunner

from dashboard.comparisons import Comparer, comparison_of, comparisons_of_run
from evals.engine import EngineKind, EngineSpec
from evals.scores import Alarm, AlarmKind, ChatTemplate
from evals.suite import load_suite
from orchestrator.cli import app
from orchestrator.compare import Comparison
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunState
from tests.support.demo_stores import Maker
from tests.support.made_results import ENGINE, HARDWARE, Made, block

SMOKE = load_suite("smoke").model_copy(update={"benchmarks": load_suite("smoke").benchmarks[:2]})
BOARD = load_suite("leaderboard-v1").model_copy(
    update={"benchmarks": load_suite("leaderboard-v1").benchmarks[:2]}
)
OTHER_ENGINE = EngineSpec(kind=EngineKind.TRANSFORMERS, version="5.0", dtype="float32")
CANDIDATES = (
    Made("base"),
    block(12, 14, ability=0.95, restless=0.5),
    block(3, 6, ability=0.4, restless=0.3),
    Made("other template", template=ChatTemplate.OFF),
)
Write = Callable[[Store, Path], str]


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def write(store: Store, home: Path, *makers: Maker, candidates: tuple[Made, ...] = CANDIDATES) -> str:
    """One run of what all makers ask of the candidates."""
    asked = [(maker, maker.planned(candidates)) for maker in makers]
    lease = makers[0].write(candidates, [item for _, planned in asked for item in planned])
    for maker, planned in asked:
        for item in planned:
            maker.execute(lease, item, candidates[item.candidates[0]])
    store.finish_run(lease, RunState.DONE)
    return lease.run_id


def maker(store: Store, home: Path, **fields: Any) -> Maker:
    return Maker(store, home, **{"suite": SMOKE, "n": 40, "whole": True, **fields})


def plain(store: Store, home: Path) -> str:
    """Candidates of which one is better and one may not be compared."""
    return write(store, home, maker(store, home))


def partial(store: Store, home: Path) -> str:
    alarm = Alarm(kind=AlarmKind.EMPTY, share=0.5, threshold=0.2)
    return write(store, home, maker(store, home, n=6, whole=False, alarms=(alarm,)))


def several(store: Store, home: Path) -> str:
    """Two suites and two engines, whose longest sequences differ by suite."""
    short = ENGINE.model_copy(update={"max_length": 2048})
    return write(
        store,
        home,
        maker(store, home, n=12),
        maker(store, home, n=12, suite=BOARD, engine=short),
        maker(store, home, n=12, engine=OTHER_ENGINE, seed=1),
    )


def spoilt(store: Store, home: Path) -> str:
    run_id = plain(store, home)
    digest = store.candidate_scores(run_id, 1).evaluations[0].job_digest
    (home / "samples" / f"{digest}.parquet").write_bytes(b"not the answers")
    return run_id


def shared(store: Store, home: Path) -> str:
    """A run, and another one that has the same evaluations under other names."""
    plain(store, home)
    renamed = tuple(replace(made, name=f"also {made.name}") for made in CANDIDATES)
    lease = maker(store, home, name="again").write(renamed, maker(store, home).planned(CANDIDATES))
    store.finish_run(lease, RunState.DONE)
    return lease.run_id


def unfinished(store: Store, home: Path) -> str:
    """The last candidate has only one of its scores, the one before none."""
    made = maker(store, home)
    lease, planned = made.create(CANDIDATES)
    for item in planned[:5] + planned[7:]:
        made.execute(lease, item, CANDIDATES[item.candidates[0]])
    return lease.run_id


def commanded(*arguments: str) -> list[dict[str, Any]]:
    """What `mergeboard compare --json` prints."""
    result = CliRunner().invoke(app, ["compare", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    answer: list[dict[str, Any]] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("stored", [plain, partial, several, spoilt, shared, unfinished])
def test_the_pages_show_what_compare_prints(
    store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Write
) -> None:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
    stored(store, tmp_path)
    with Pages.open(url, read_only=True) as pages:
        assert isinstance(pages, Pages)
        comparer = Comparer(pages, tmp_path)
        for run in reversed(pages.runs()):
            expected = commanded("--run", run.id)
            assert any(row["delta"] for row in rows_of(expected))
            assert any(row["refused"] for row in rows_of(expected))
            board, single = shown_on_pages(pages, comparer, run.id)
            assert board == single
            assert sorted(map(str, board)) == sorted(map(str, rows_of(expected)))


def shown_on_pages(
    pages: Pages, comparer: Comparer, run_id: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the leaderboard and of the page that compares two, suite by suite and engine by engine."""
    board: list[Comparison] = []
    single: list[Comparison] = []
    views = {(c.engine_key, c.suite): c for c in pages.columns(run_id)}
    n_candidates = pages.count_candidates(run_id)
    for engine_key, _ in views:
        for position in range(1, n_candidates):
            comparer.now(run_id, 0, (position, engine_key))
    for column in views.values():
        found, pending = comparisons_of_run(pages, comparer, run_id, 0, column, range(1, n_candidates))
        assert pending == 0
        for position, each in found.items():
            assert isinstance(each, Comparison)
            board.append(each)
            _, alone = comparison_of(pages, comparer, run_id, 0, position, column)
            assert isinstance(alone, Comparison)
            single.append(alone)
    dumped = [[c.model_dump(mode="json") for c in some] for some in (board, single)]
    return rows_of(dumped[0]), rows_of(dumped[1])


def rows_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with what its comparison says of it, whatever view it is shown in."""
    about = ("base", "candidate", "n_tests", "n_candidates")
    return [
        {**{f"of_{name}": c[name] for name in about}, **row}
        for c in found
        for row in (*c["rows"], *c["averages"])
    ]


def test_a_candidate_whose_run_is_not_compared_yet_is_corrected_as_by_the_command(
    store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGEBOARD_HOME", str(tmp_path))
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
    monkeypatch.setattr(Comparer, "_work", lambda self: None)
    run_id = plain(store, tmp_path)
    expected = commanded(CANDIDATES[1].name, "--run", run_id)
    with Pages.open(url, read_only=True) as pages:
        assert isinstance(pages, Pages)
        views = {(c.engine_key, c.suite): c for c in pages.columns(run_id)}
        shown = [
            comparison_of(pages, Comparer(pages, tmp_path), run_id, 0, 1, column)[1]
            for column in views.values()
            if column.engine_key == ENGINE.digest_without_length
        ]
    dumped = [found.model_dump(mode="json") for found in shown if isinstance(found, Comparison)]
    assert sorted(map(str, rows_of(dumped))) == sorted(map(str, rows_of(expected)))


def test_gpu_hours_are_those_of_the_status(store: Store, tmp_path: Path) -> None:
    """Work of a run is counted once, whoever shows it; outcomes that were there cost it nothing."""
    gpu_node = HARDWARE.model_copy(update={"gpus": ("NVIDIA H200",)})
    first = write(store, tmp_path, maker(store, tmp_path, hardware=gpu_node))
    again = maker(store, tmp_path, name="again").write(CANDIDATES, maker(store, tmp_path).planned(CANDIDATES))
    assert sum(node.gpu_s for node in store.usage(first)) > 0
    assert store.usage(again.run_id) == ()
    assert store.progress(again.run_id).done == store.progress(first).done
