"""Scans and searches of an architecture whose layer paths no engine runs live: the paths are built, and the end is a confirmation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.probes.race import RacePlan
from orchestrator.run.scheduler import RunSummary
from orchestrator.search.beam import SearchRequest, run_search
from orchestrator.search.grid_scan import scan_with
from orchestrator.search.request import ScanRequest
from tests.orchestrator.search.test_grid_scan import at, request
from tests.support.family_checkpoints import random_checkpoint
from tests.support.other_architectures import OTHERS


@pytest.fixture(scope="module")
def minicpm3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers that depend on their number."""
    settings = {**OTHERS["minicpm3"], "num_hidden_layers": 3}
    return random_checkpoint(tmp_path_factory.mktemp("refused") / "base", "minicpm3", settings)


def scanning(checkpoint: Path, **values: Any) -> ScanRequest:
    words: dict[str, Any] = {"grid": None, "probes": ["reasoning-easy-scored"], "top": 1, "try_live": True}
    paths = ["(0, 1)", "(1, 2)"]
    return request(checkpoint, **{**words, "paths": paths, **values})


def test_a_scan_of_refused_paths_ends_with_their_confirmation(
    minicpm3: Path, tmp_path: Path, tries: list[Path]
) -> None:
    """The confirmation is another run, which does not ask the engine again."""
    seen: list[RunSummary] = []
    home = tmp_path / "home"
    home.mkdir()
    report = scan_with(scanning(minicpm3), *at(home, seen))
    assert (report.failed, len(report.ranking.paths)) == ((), 2)
    assert report.confirmation is not None
    assert len(report.confirmation.paths) == 1
    assert [len(summary.notes) for summary in seen] == [1, 1]
    assert tries == [minicpm3]


@pytest.mark.slow
def test_a_race_of_refused_paths_goes_on_with_builds(
    minicpm3: Path, tmp_path: Path, tries: list[Path]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    report = scan_with(
        scanning(minicpm3, race=RacePlan(keep=2, shares=(0.25, 0.5)), paths=["(0, 1)", "(1, 2)", "(0, 2)"]),
        *at(home),
    )
    assert (report.failed, report.race is not None, tries) == ((), True, [minicpm3])
    assert report.confirmation is not None


@pytest.mark.slow
def test_a_search_of_refused_paths_goes_on_with_builds(
    minicpm3: Path, tmp_path: Path, tries: list[Path]
) -> None:
    """Every depth is a run of its own."""
    home = tmp_path / "home"
    home.mkdir()
    words = SearchRequest(
        scan=scanning(minicpm3, grid="all", paths=()), width=2, depth=2, pool=2, candidates=2, keep=1
    )
    report = run_search(words, *at(home))
    assert len(report.depths) == 2
    assert tries == [minicpm3]
