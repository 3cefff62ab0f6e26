"""Search beyond the grid, on a tiny checkpoint with the real planner, scheduler, store and engine."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.compare.scan_runs import scan_runs, stored_confirmation
from orchestrator.errors import SweepError
from orchestrator.run.scheduler import RunSummary
from orchestrator.search.beam import Move, MoveKind, SearchReport, SearchRequest, run_search
from orchestrator.search.grid_scan import scan_with
from orchestrator.search.request import request_of
from orchestrator.search.tables import print_search
from orchestrator.store.pages import Pages
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.tiny_checkpoints import tiny_checkpoint

PROBES = ["reasoning-easy-scored"]


def wanted(checkpoint: Path, **values: object) -> SearchRequest:
    scan = request_of(
        checkpoint=str(checkpoint), probes=PROBES, paths=None, grid="all", engine="transformers", dtype="float32",
        suite="smoke", limit=2,
    )  # fmt: skip
    fields = {"width": 2, "depth": 3, "pool": 4, "candidates": 4, "keep": 4, "max_added": 4}
    return SearchRequest(scan=scan, **{**fields, **values})  # type: ignore[arg-type]  # the record checks


@pytest.mark.parametrize(
    ("move", "layers", "made"),
    [
        (Move(kind=MoveKind.REPEAT, i=1, j=3), (0, 1, 2, 3), (0, 1, 2, 1, 2, 3)),
        (Move(kind=MoveKind.REPEAT, i=1, j=3), (0, 1, 2, 1, 2, 3), (0, 1, 2, 1, 2, 1, 2, 3)),
        (Move(kind=MoveKind.REPEAT, i=0, j=1), (0, 1, 2), (0, 0, 1, 2)),
        (Move(kind=MoveKind.REPEAT, i=1, j=3), (0, 1, 3), None),
        (Move(kind=MoveKind.SKIP, i=1, j=2), (0, 1, 2, 1, 2), (0, 2, 2)),
        (Move(kind=MoveKind.SKIP, i=3, j=4), (0, 1), None),
        (Move(kind=MoveKind.SKIP, i=0, j=1), (0,), None),
    ],
)
def test_moves(move: Move, layers: tuple[int, ...], made: tuple[int, ...] | None) -> None:
    assert move.apply(layers) == made


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchReport]:
    folder = tmp_path_factory.mktemp("search")
    checkpoint = tiny_checkpoint(folder / "tiny", layers=4)
    settings = settings_at(folder / "home")
    return folder, run_search(wanted(checkpoint), settings, silently, ground_here(settings))


def test_beam_then_halving_then_confirmation(searched: tuple[Path, SearchReport]) -> None:
    _, report = searched
    assert [(depth.depth, depth.tried) for depth in report.depths] == [(1, 10), (2, 4), (3, 4)]
    assert [len(rung.paths) for rung in report.rungs] == [4, 2, 1]
    assert set(report.rungs[2].paths) < set(report.rungs[1].paths) < set(report.rungs[0].paths)
    found = report.confirmation
    assert found.n_tried == 10 + 4 + 8
    assert len(found.paths) == 4
    assert sum(bool(path.benchmarks) for path in found.paths) == 2
    assert not found.real
    assert max(len(path.layers) for path in found.paths) <= 8
    buffer = io.StringIO()
    print_search(report, Console(file=buffer, width=118))
    assert "Nothing here is real" in buffer.getvalue()


def test_every_run_of_a_search_shows_the_whole_search(searched: tuple[Path, SearchReport]) -> None:
    folder, report = searched
    home = folder / "home"
    with Pages.open(f"sqlite:///{home}/store.sqlite", create=False, read_only=True) as pages:
        scan = scan_runs(pages, report.depths[0].run_id)
        assert scan is not None
        for run_id in (*(d.run_id for d in report.depths), *(r.run_id for r in report.rungs)):
            assert scan_runs(pages, run_id) == scan
        stored = stored_confirmation(pages, scan, home)
    assert {d.run_id for d in report.depths} <= set(scan.searches)
    assert len(scan.searches) == len(report.depths) + 1, "the layers left out, one by one, were tried as well"
    assert scan.confirmation == report.rungs[0].run_id
    assert stored is not None
    assert stored.conclusion == report.conclusion
    assert stored.n_tried == report.confirmation.n_tried


def test_a_search_goes_on_where_it_was(searched: tuple[Path, SearchReport]) -> None:
    folder, report = searched
    settings, seen = settings_at(folder / "home"), list[RunSummary]()
    again = run_search(report.request, settings, silently, ground_here(settings, seen))
    assert all(summary.cached == summary.done for summary in seen)
    assert again.model_copy(update={"duration_s": 0.0}) == report.model_copy(update={"duration_s": 0.0})


def test_any_scan_in_the_store_is_a_seed(searched: tuple[Path, SearchReport]) -> None:
    folder, report = searched
    settings = settings_at(folder / "home")
    scan = report.request.scan.model_copy(update={"grid": "i=1:3", "suite": None, "limit": None, "top": 0})
    run_id = scan_with(scan, settings, silently, ground_here(settings)).run_id
    request = report.request.model_copy(update={"seed_run": run_id, "depth": 2})
    found = run_search(request, settings, silently, ground_here(settings))
    assert found.depths[0].run_id == run_id
    assert found.depths[0].tried == 5
    other = request.model_copy(update={"scan": scan.model_copy(update={"probes": ("emotion-easy-scored",)})})
    with pytest.raises(SweepError, match="emotion-easy-scored-search"):
        run_search(other, settings, silently, ground_here(settings))
