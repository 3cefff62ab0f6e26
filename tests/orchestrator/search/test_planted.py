"""The scan finds what was planted and believes nothing else: real planner, scheduler, store, probes, statistics and engine.

pytest -m slow -s tests/orchestrator/search/test_planted.py -k "[7]"      one of the seeds, a minute or two
"""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.probes import Finding
from evals.probes.race import RacePlan
from orchestrator.search import ScanReport
from orchestrator.search.grid_scan import scan_with
from orchestrator.search.request import request_of
from recipes.layer_path import LayerPath
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.planted_circuit import KEY, N_DECOYS, N_LAYERS, Planted, plant

HELPS = 0.02


def scanned(
    folder: Path, seed: int, top: int = 24, race: RacePlan | None = None
) -> tuple[Planted, ScanReport]:
    planted = plant(folder / "planted", seed)
    request = request_of(
        checkpoint=str(planted.checkpoint),
        probes=[KEY],
        paths=None,
        grid="i=0: max_added=6",
        engine="transformers",
        dtype="float32",
        top=top,
        race=race,
    )
    settings = settings_at(folder / "home")
    return planted, scan_with(request, settings, silently, ground_here(settings))


def check(planted: Planted, report: ScanReport) -> str:
    """The block is first and kept; no decoy is called real though each helps on the search set."""
    assert N_LAYERS >= 12
    assert len(planted.decoys) == N_DECOYS >= 5
    circuit = LayerPath.of_block(*planted.circuit, N_LAYERS).layers
    assert report.ranking.paths[0].layers == circuit, report.path(report.ranking.paths[0].layers).label
    found = report.confirmation
    assert found is not None
    paths = {path.layers: path for path in found.paths}
    assert paths[circuit].finding is Finding.REAL
    assert paths[circuit].rank == 1
    decoys = [paths[LayerPath.of_block(*block, N_LAYERS).layers] for block in planted.decoys]
    assert all(decoy.search.delta > HELPS for decoy in decoys), [d.search.delta for d in decoys]
    assert all(decoy.finding is not Finding.REAL for decoy in decoys), [d.finding for d in decoys]
    # Whatever else is called real runs a part of the circuit again.
    inside = set(range(*planted.circuit))
    for path in found.real:
        block = report.path(path.layers).block
        assert block is not None
        assert inside & set(range(*block))
    gains = [f"{d.search.delta:+.3f} -> {d.confirmation.delta:+.3f}" for d in decoys]
    mine = paths[circuit]
    return f"circuit {planted.circuit} {mine.search.delta:+.3f} -> {mine.confirmation.delta:+.3f}; decoys {', '.join(gains)}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_planted_circuit_is_found_and_no_decoy_believed(seed: int, tmp_path: Path) -> None:
    print(f"\n{seed} {check(*scanned(tmp_path, seed))}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_race_finds_the_planted_circuit_and_believes_no_decoy(seed: int, tmp_path: Path) -> None:
    planted, report = scanned(tmp_path, seed, top=10, race=RacePlan(keep=10))
    circuit = LayerPath.of_block(*planted.circuit, N_LAYERS).layers
    decoys = {LayerPath.of_block(*block, N_LAYERS).layers for block in planted.decoys}
    assert report.ranking.paths[0].layers == circuit, report.path(report.ranking.paths[0].layers).label
    assert report.confirmation is not None
    real = {path.layers for path in report.confirmation.real}
    assert circuit in real
    assert not decoys & real
    race = report.race
    assert race is not None
    counts = [len(look.paths) for look in race.looks]
    shares = f"{race.asked / race.whole:.1%} of the questions, paths {counts} and {len(race.contenders)}"
    print(f"\n{seed} race: {shares}, {report.duration_s:.1f} s")
