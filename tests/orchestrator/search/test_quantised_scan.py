"""A quantised language model scanned live, against its dequantised twin.

pytest -m slow -s tests/orchestrator/search/test_quantised_scan.py
"""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from orchestrator.search.grid_scan import scan_with
from orchestrator.search.report import ScanReport
from orchestrator.search.request import request_of
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.in_process import ground_here, silently
from tests.support.quantised_checkpoints import dequantised, quantised

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(3000)]

PROBE = "reasoning-easy-scored"
PATHS = [f"({i}, {i + 2})" for i in range(29)] + ["(9, 12)"]


def scanned(checkpoint: Path, home: Path) -> ScanReport:
    """Thirty blocks on one probe, live in vLLM; the best five confirmed."""
    settings = settings_at(home)
    request = request_of(
        checkpoint=str(checkpoint), probes=[PROBE], grid="none", paths=PATHS, engine="vllm", dtype="bfloat16", top=5
    )  # fmt: skip
    return scan_with(request, settings, silently, ground_here(settings))


@pytest.mark.parametrize("form", ["int4"])
def test_the_ranking_is_that_of_the_dequantised_twin(
    form: str, demo_checkpoint: Path, tmp_path: Path
) -> None:
    """Two paths change places only where their values differ by less than the half-width of the intervals in the report."""
    source = demo_checkpoint
    packed = scanned(quantised(source, tmp_path / "packed", form), tmp_path / "home-packed")
    plain = scanned(dequantised(source, tmp_path / "plain", form), tmp_path / "home-plain")
    values = []
    for report in (packed, plain):
        assert report.failed == ()
        values.append({path.layers: path.deltas[PROBE] for path in report.ranking.paths})
    ours, twins = values
    assert ours.keys() == twins.keys()
    assert len(ours) == len(PATHS)
    assert plain.confirmation is not None
    gains = [path.search for path in plain.confirmation.paths]
    noise = statistics.median((gain.interval.high - gain.interval.low) / 2 for gain in gains)
    swapped = [
        abs(twins[a] - twins[b])
        for a, b in itertools.combinations(ours, 2)
        if (ours[a] - ours[b]) * (twins[a] - twins[b]) < 0
    ]
    largest = max(abs(ours[path] - twins[path]) for path in ours)
    print(
        f"{form}: {len(swapped)} of {len(ours) * (len(ours) - 1) // 2} pairs change places, the farthest apart by "
        f"{max(swapped, default=0):.4f}; half-width {noise:.4f}; values differ by at most {largest:.4f}; correlation "
        f"{statistics.correlation(list(ours.values()), [twins[path] for path in ours]):.4f}; spread {statistics.pstdev(twins.values()):.4f}"
    )
    assert max(swapped, default=0.0) < noise
