"""A scan and search moves with partial and damped visits, on a tiny checkpoint with the real planner, store and engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.search.beam import Move, MoveKind, SearchRequest, run_search
from orchestrator.search.files import chart_scan
from orchestrator.search.grid_scan import scan_with
from orchestrator.search.request import ScanRequest, request_of
from orchestrator.search.tables import report_text
from orchestrator.store.pages import Pages
from recipes.layer_path import LayerPath
from recipes.layer_visit import Variant
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.tiny_checkpoints import tiny_checkpoint

CONTROL = "(0, 2):damped=0"


def request(
    checkpoint: Path | str,
    *,
    grid: str = "all",
    paths: Sequence[str] | None = None,
    variants: Sequence[str] = ("attention",),
    top: int = 3,
) -> ScanRequest:
    return request_of(
        checkpoint=str(checkpoint),
        probes=["reasoning-easy-scored"],
        grid=grid,
        paths=paths,
        variants=tuple(variants),
        engine="transformers",
        dtype="float32",
        top=top,
    )


def test_a_scan_of_a_variant_is_mapped_and_named_and_its_control_changes_nothing(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny", layers=2)
    settings = settings_at(tmp_path / "home")
    report = scan_with(request(checkpoint, paths=[CONTROL], top=0), settings, silently, ground_here(settings))
    labels = {report.path(path.layers).label: path for path in report.ranking.paths}
    assert set(labels) == {"(0, 1):attention", "(1, 2):attention", "(0, 2):attention", CONTROL}
    assert set(labels[CONTROL].deltas.values()) == {0.0}
    assert any(path.deltas["reasoning-easy-scored"] for path in report.ranking.paths)
    assert {point.label: point.block for point in chart_scan(report).points} == {
        "(0, 1):attention": (0, 1), "(1, 2):attention": (1, 2), "(0, 2):attention": (0, 2), CONTROL: None,
    }  # fmt: skip
    assert "(0, 2):attention" in report_text(report)


def test_variants_are_checked_before_anything_runs() -> None:
    request("demo/x", variants=("whole", "mlp", "attention:damped=0.25")).check()
    for variants, words in (
        (("half",), "--variant: 'half' is not a kind of visit"),
        (("damped=0",), "changes nothing"),
        (("mlp", "mlp"), "named twice"),
        (("damped=0.5", "damped=0.50"), "named twice"),
    ):
        with pytest.raises(SweepError, match=words):
            request("demo/x", variants=variants).check()
    with pytest.raises(SweepError, match="about the blocks of --grid"):
        request("demo/x", grid="none", paths=["(0, 1)"]).check()


def test_a_scan_without_variants_is_the_sweep_that_it_was() -> None:
    sweep = request("demo/x", variants=()).search_sweep().sweep
    assert [entry.grid for entry in sweep.recipes] == ["all"]
    sweep = request("demo/x", variants=("whole", "damped=0.50")).search_sweep().sweep
    assert [entry.grid for entry in sweep.recipes] == ["all", "all variant=damped=0.5"]


def test_moves_repeat_in_a_variant_and_skip_every_visit() -> None:
    half = Move(kind=MoveKind.REPEAT, i=1, j=3, variant=Variant.parse("damped=0.5"))
    path = half.apply((0, 1, 2, 3))
    assert path == LayerPath.parse("(1, 3):damped=0.5", 4).layers
    again = Move(kind=MoveKind.REPEAT, i=2, j=3).apply(path)
    assert again == LayerPath.parse("layers:0-3,1-3:damped=0.5,2,3", 4).layers
    assert (
        Move(kind=MoveKind.SKIP, i=1, j=2).apply(path)
        == LayerPath.parse("layers:0,2,2:damped=0.5,3", 4).layers
    )


@pytest.mark.slow
def test_a_search_extends_paths_by_moves_of_a_variant(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny", layers=3)
    settings = settings_at(tmp_path / "home")
    scan = request(checkpoint, variants=("whole", "mlp"), top=0)
    wanted = SearchRequest(scan=scan, width=2, depth=2, pool=12, candidates=12, keep=3)
    report = run_search(wanted, settings, silently, ground_here(settings))
    # Twelve blocks of two kinds; at depth 2 they are combined with each other and with skips.
    assert [depth.tried for depth in report.depths] == [12, 10]
    assert report.confirmation.n_tried == 12 + 3 + 10
    labels = [path for rung in report.rungs for path in rung.paths]
    assert len(labels) == 3
    with Pages.open(settings.database_url, create=False, read_only=True) as pages:
        names = {candidate.name for candidate in pages.candidates(report.depths[1].run_id)}
    assert any(":mlp" in name for name in names)
