"""A scan of a tiny checkpoint with the real planner, scheduler, store, worker and transformers engine."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.layer_visits import VisitPath
from evals.probes import Finding, LevelKind, ProbeError, RankMethod
from evals.probes.evaluate import ProbeEvaluation, ProbeRun
from orchestrator.compare.run_comparisons import results_of_run
from orchestrator.compare.scan_runs import scan_runs, search_ranking, stored_confirmation
from orchestrator.errors import MergeboardError, RunError
from orchestrator.run.scheduler import RunSummary
from orchestrator.search import ScanReport
from orchestrator.search.files import chart_scan, write_scan
from orchestrator.search.grid_scan import Ground, Reporting, scan_with
from orchestrator.search.request import ScanRequest, request_of
from orchestrator.search.tables import report_text
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from tests.support.in_process import ground_here, silently
from tests.support.runs_fixture import mergeboard
from tests.support.tiny_checkpoints import tiny_checkpoint

PROBES = ("reasoning-easy-scored", "emotion-easy-scored")


def settings_at(home: Path) -> Settings:
    return Settings(home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None)


def at(home: Path, seen: list[RunSummary] | None = None) -> tuple[Settings, Reporting, Ground]:
    """Where a scan happens."""
    return settings_at(home), silently, ground_here(settings_at(home), seen)


def request(checkpoint: Path, **values: Any) -> ScanRequest:
    words: dict[str, Any] = {
        "probes": PROBES,
        "paths": ["layers:0,2,3"],
        "grid": "all",
        "engine": "transformers",
        "dtype": "float32",
    }
    return request_of(**{**words, "checkpoint": str(checkpoint), "top": 3, **values})


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScanReport]:
    folder = tmp_path_factory.mktemp("scan")
    checkpoint = tiny_checkpoint(folder / "tiny", layers=4)
    return folder, scan_with(request(checkpoint), *at(folder / "home"))


def test_every_path_has_a_value_and_the_best_are_confirmed(scanned: tuple[Path, ScanReport]) -> None:
    _, report = scanned
    assert len(report.table) == 12
    assert report.table[0].layers == (0, 1, 2, 3)
    assert [path.rank for path in report.ranking.paths] == list(range(1, 12))
    assert set(report.levels) == set(PROBES)
    assert any(level.kind is LevelKind.RANDOM for level in report.levels[PROBES[0]])
    found = report.confirmation
    assert found is not None
    assert {path.layers for path in found.paths} == {path.layers for path in report.ranking.paths[:3]}
    assert found.n_tried == 11
    # Random weights: no path knows anything.
    assert not found.real
    assert "Nothing here is real" in report.conclusion
    assert all(path.finding is not Finding.REAL for path in found.paths)


def test_ranks_of_search_and_confirmation_agree(scanned: tuple[Path, ScanReport]) -> None:
    _, report = scanned
    assert report.confirmation is not None
    assert [path.rank for path in report.confirmation.paths] == [1, 2, 3]


def test_scanning_again_runs_nothing_and_tells_the_same(scanned: tuple[Path, ScanReport]) -> None:
    folder, report = scanned
    seen: list[RunSummary] = []
    again = scan_with(report.request, *at(folder / "home", seen))
    assert all(summary.cached == summary.done for summary in seen)
    assert again.model_copy(update={"duration_s": 0.0}) == report.model_copy(update={"duration_s": 0.0})


def test_one_more_path_runs_only_that(scanned: tuple[Path, ScanReport]) -> None:
    folder, report = scanned
    seen: list[RunSummary] = []
    more = report.request.model_copy(update={"paths": (*report.request.paths, "repeat:1*3"), "top": 0})
    found = scan_with(more, *at(folder / "home", seen))
    assert [summary.done - summary.cached for summary in seen] == [len(PROBES)]
    assert found.confirmation is None
    assert "picked by luck" in found.conclusion


def test_probe_values_are_no_scores(scanned: tuple[Path, ScanReport]) -> None:
    folder, report = scanned
    with Store.open(f"sqlite:///{folder / 'home'}/store.sqlite") as store:
        assert results_of_run(store, report.run_id) == ()
        records = store.evaluations([planned.job.digest for planned in store.run_jobs(report.run_id)])
    assert len(records) == 2 * 12
    for record in records.values():
        assert not record.result.comparable_to_board
        assert (folder / "home" / record.samples_path).is_file()


def test_files(scanned: tuple[Path, ScanReport], tmp_path: Path) -> None:
    _, report = scanned
    files = {file.name for file in write_scan(report, tmp_path)}
    assert {
        "report.txt",
        "scan.html",
        "ranking.csv",
        "report.json",
        "heatmap-together.png",
        "pareto-together.png",
    } <= files
    assert {f"{kind}-{probe}.png" for kind in ("heatmap", "skyline") for probe in PROBES} <= files
    rows = list(csv.DictReader((tmp_path / "ranking.csv").read_text().splitlines()))
    assert [row["layer_path"] for row in rows] == [
        report.path(p.layers).canonical for p in report.ranking.paths
    ]
    assert ScanReport.model_validate_json((tmp_path / "report.json").read_text()) == report
    page = (tmp_path / "scan.html").read_text()
    assert page.count("<pre>") == 1
    assert page.count('id="chart-') >= 6


def test_the_text_shows_null_levels_everywhere(scanned: tuple[Path, ScanReport]) -> None:
    _, report = scanned
    text = report_text(report)
    for word in (
        "random",
        "constant",
        "echo",
        "ceiling",
        "no benchmark scores",
        "95 % interval",
        "p Holm",
        "Shrinkage",
    ):
        assert word in text
    assert text.count("confirmation set: base") == len(PROBES)


def test_a_chart_has_every_path_and_null_line(scanned: tuple[Path, ScanReport]) -> None:
    _, report = scanned
    scan = chart_scan(report)
    assert len(scan.points) == 11
    assert all(measure.nulls for measure in scan.measures[:-1])
    assert scan.base["together"] == 0.0


def test_broken_paths_are_told_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny", layers=3)
    real = ProbeRun.measure

    def measure(
        self: ProbeRun,
        paths: Sequence[VisitPath | None],
        on_progress: Callable[[int, int], None] | None = None,
        journals: Sequence[Path] = (),
    ) -> list[ProbeEvaluation | ProbeError]:
        measured = real(self, paths, on_progress, journals)
        return [
            ProbeError("It overflows.") if p == (0, 1, 1, 2) else m
            for p, m in zip(paths, measured, strict=True)
        ]

    monkeypatch.setattr(ProbeRun, "measure", measure)
    report = scan_with(request(checkpoint, paths=[], probes=PROBES[:1], top=1), *at(tmp_path / "home"))
    assert [(path.label, path.reason) for path in report.failed] == [("(1, 2)", "It overflows.")]
    assert len(report.table) == 6
    assert report.confirmation is not None
    assert report.confirmation.n_tried == 6
    assert "Not measured: (1, 2)" in report_text(report)
    assert [p.label for p in chart_scan(report).points if p.reason] == ["(1, 2)"]


def test_without_a_base_nothing_can_be_said(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    checkpoint = tiny_checkpoint(tmp_path / "tiny", layers=2, dtype="float32")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"].fill(np.nan)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="checkpoint itself could not be measured"):
        scan_with(request(checkpoint, paths=[]), *at(tmp_path / "home"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"probes": ["nonsense"]}, "no probe 'nonsense'"),
        ({"probes": [*PROBES, PROBES[0]]}, "named twice"),
        ({"grid": "none", "paths": []}, "no layer path"),
        ({"grid": "i=9:3"}, "not part of a grid"),
        ({"paths": ["(3"]}, "not a layer path"),
        ({"limit": 3}, "--confirm-suite"),
        ({"suite": "nothing"}, "no suite"),
        ({"engine": "llama.cpp"}, "--engine"),
        ({"rank": "best"}, "--rank"),
    ],
)
def test_bad_input_is_a_sentence(tiny_llama: Path, words: dict[str, object], message: str) -> None:
    from evals.errors import EvaluationError
    from recipes.errors import RecipeError

    with pytest.raises((MergeboardError, EvaluationError, RecipeError), match=message):
        request(tiny_llama, **words).check()


def test_defaults() -> None:
    found = request_of(probes=None, paths=None, grid=None, checkpoint="x")
    assert found.grid == "all"
    assert found.rank is RankMethod.BALANCED_Z
    assert request_of(probes=None, paths=["(1, 2)"], grid=None, checkpoint="x").grid is None


@pytest.mark.slow
def test_the_command_survives_kill_9(tmp_path: Path) -> None:
    """On a real Ray: killed in the middle, run again; nothing lost, nothing twice."""
    import os
    import subprocess
    import sys

    from orchestrator.store.records import AttemptState
    from tests.orchestrator.run.test_kill import kill_when

    checkpoint = tiny_checkpoint(tmp_path / "tiny", layers=9)
    home = tmp_path / "home"
    words = [
        "scan",
        str(checkpoint),
        "--engine",
        "transformers",
        "--probes",
        ",".join(PROBES),
        "--top",
        "2",
        "--json",
    ]
    env = {**os.environ, "MERGEBOARD_HOME": str(home), "OMP_NUM_THREADS": "2"}
    command = [str(Path(sys.executable).parent / "mergeboard"), *words]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet, start_new_session=True)
    kill_when(process, lambda: len(list(home.glob("samples/*.parquet"))) > 32)
    with Store.open(f"sqlite:///{home}/store.sqlite", read_only=True) as store:
        (run,) = store.runs()
        done = store.done([p.job.digest for p in store.run_jobs(run.id)])
    again = mergeboard(*words, home=home)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert len(report["table"]) == 46
    with Store.open(f"sqlite:///{home}/store.sqlite", read_only=True) as store:
        for planned in store.run_jobs(run.id):
            states = [a.state for a in store.attempts(planned.job.digest)]
            assert states.count(AttemptState.SUCCEEDED) == 1
            assert len(states) == 1 or planned.job.digest not in done


def test_the_store_tells_the_same_confirmation_from_either_run(scanned: tuple[Path, ScanReport]) -> None:
    folder, report = scanned
    home = folder / "home"
    with Pages.open(f"sqlite:///{home}/store.sqlite", create=False, read_only=True) as pages:
        scan = scan_runs(pages, report.run_id)
        assert scan is not None
        assert report.confirmation_run_id is not None
        assert scan == scan_runs(pages, report.confirmation_run_id)
        assert (scan.searches, scan.confirmation) == ((report.run_id,), report.confirmation_run_id)
        stored = stored_confirmation(pages, scan, home)
        ranking = search_ranking(pages, report.run_id, scan.rank)
        # A store of an earlier version has no link: the paths tell.
        _forget_links(pages)
        assert scan_runs(pages, report.run_id) == scan
    assert stored is not None
    assert report.confirmation is not None
    assert stored.conclusion == report.conclusion
    for kept, shown in zip(report.confirmation.paths, stored.paths, strict=True):
        assert (kept.layers, kept.finding) == (shown.layers, shown.finding)
        assert kept.confirmation == shown.confirmation
        assert (kept.p_tried, kept.p_worse_tried) == (shown.p_tried, shown.p_worse_tried)
    assert ranking is not None
    assert [(p.layers, p.rank) for p in ranking.paths] == [(p.layers, p.rank) for p in report.ranking.paths]


def _forget_links(pages: Pages) -> None:
    """Let the store answer as one written before runs named the search that they confirm."""
    asked = pages.probe_runs()
    pages.probe_runs = lambda: tuple(m.model_copy(update={"plan": "{}"}) for m in asked)  # type: ignore[method-assign]
