"""The scan finds an attention that helps alone where its block hurts: real planner, scheduler, store, probes and engine.

pytest -m slow -s tests/orchestrator/search/test_planted_attention.py -k "[7]"      one of the seeds
"""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.probes import Finding
from orchestrator.search.grid_scan import scan_with
from orchestrator.search.request import request_of
from recipes.layer_path import LayerPath
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.planted_attention import N_LAYERS, plant_attention
from tests.support.planted_circuit import KEY

TRIED = 2 * (N_LAYERS - 1)
"""All single layers but the first, whose attention reads the question."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_an_attention_that_helps_is_found_where_its_block_hurts(seed: int, tmp_path: Path) -> None:
    planted = plant_attention(tmp_path / "planted", seed)
    request = request_of(
        checkpoint=str(planted.checkpoint),
        probes=[KEY],
        paths=None,
        grid="i=1: max_added=1",
        variants=("whole", "attention"),
        engine="transformers",
        dtype="float32",
        top=TRIED,
    )
    settings = settings_at(tmp_path / "home")
    report = scan_with(request, settings, silently, ground_here(settings))
    assert report.confirmation is not None
    assert len(report.ranking.paths) == TRIED
    text = f"({planted.layer}, {planted.layer + 1})"
    attention, block = (LayerPath.parse(t, N_LAYERS).layers for t in (f"{text}:attention", text))
    findings = {path.layers: path for path in report.confirmation.paths}
    print(
        f"\n{seed} layer {planted.layer}",
        *(
            f"{name} {p.search.delta:+.3f} -> {p.confirmation.delta:+.3f} {p.finding}"
            for name, p in (("attention", findings[attention]), ("block", findings[block]))
        ),
    )
    assert report.ranking.paths[0].layers == attention, report.path(report.ranking.paths[0].layers).label
    assert findings[attention].finding is Finding.REAL
    assert findings[block].finding is Finding.WORSE
    # Whatever else is called real runs this attention again, and no whole block is.
    for path in report.confirmation.real:
        varied = report.path(path.layers).varied_block
        assert varied is not None
        assert planted.layer in range(varied[0], varied[1])
