"""Results of lighteval and logs of Inspect: imported with their samples, compared by the exact test, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from evals.claims.facts import Fact
from evals.errors import ClaimError
from orchestrator.compare.comparison import ComparisonRow
from orchestrator.compare.sides import compare_names
from orchestrator.exchange.imports import import_path, import_paths
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.other_tools import inspect_log, write_archive, write_lighteval

BASE = [float(i % 2) for i in range(80)]
OTHER = [1.0 if i < 24 else v for i, v in enumerate(BASE)]
EXACT = binomtest(12, 12).pvalue


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.from_environment()


def row_of(settings: Settings, candidate: Path, base: Path, metric: str | None = None) -> ComparisonRow:
    with Store.open(settings.database_url) as store:
        (comparison,) = compare_names(store, [str(candidate)], str(base), settings.home, metric=metric)
    return comparison.rows[0]


def test_lighteval_with_details(settings: Settings, tmp_path: Path) -> None:
    a = write_lighteval(tmp_path / "a", "org/a", {"squad_v2|0": BASE, "lighteval|gsm8k|5": BASE})
    b = write_lighteval(tmp_path / "b", "org/b", {"squad_v2|0": OTHER, "lighteval|gsm8k|5": BASE})
    (first, _) = import_paths([a, b], settings).runs
    assert [(r.suite, r.benchmark, r.measurement.result.metric) for r in first.results] == [
        ("lighteval", "squad_v2", "em"),
        ("lighteval", "gsm8k", "em"),
    ]
    assert first.results[1].measurement.facts.known[Fact.SHOTS] == "5"
    assert first.run.measured_at is not None
    assert first.run.problems == ()
    assert "f1 give" not in str(first.results[0].problems)
    row = row_of(settings, b, a)
    assert row.delta is not None
    assert (row.delta.gained, row.delta.lost) == (12, 0)
    assert row.delta.p == pytest.approx(EXACT)
    graded = row_of(settings, b, a, "f1")
    assert graded.delta is not None
    assert graded.delta.delta_points == pytest.approx(7.5)
    bare = write_lighteval(tmp_path / "c", "org/c", {"squad_v2|0": OTHER}, details=False)
    (taken,) = import_path(bare, settings).runs
    assert taken.results[0].samples_path is None
    unpaired = row_of(settings, bare, a)
    assert unpaired.refused or (unpaired.delta is not None and unpaired.delta.test == "unpaired")


@pytest.mark.parametrize("form", ["json", "eval", "zstandard"])
def test_inspect_logs(settings: Settings, tmp_path: Path, form: str) -> None:
    paths = []
    for name, values in (("a", BASE), ("b", OTHER)):
        log = inspect_log(f"org/{name}", values)
        if form == "json":
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(log))
        else:
            path = write_archive(tmp_path / f"{name}.eval", log, zstandard=form == "zstandard")
        paths.append(path)
    (first, _) = import_paths(paths, settings).runs
    (result,) = first.results
    assert (first.run.checkpoint, result.suite, result.benchmark) == ("org/a", "inspect", "arc_easy")
    assert result.measurement.result.metric == "accuracy"
    assert result.samples_path is not None
    assert not result.measurement.result.partial
    row = row_of(settings, paths[1], paths[0])
    assert row.delta is not None
    assert row.delta.p == pytest.approx(EXACT)
    folder = import_path(tmp_path, settings)
    assert len(folder.runs) == 2


def test_repetitions_are_averaged_or_not_used(settings: Settings, tmp_path: Path) -> None:
    log = inspect_log("org/a", BASE, epochs=3)
    log["samples"][0]["scores"]["choice"]["value"] = "C"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(log))
    (taken,) = import_path(path, settings).runs
    assert taken.results[0].measurement.result.n == len(BASE)
    assert taken.results[0].samples_path is not None
    log["eval"]["config"]["epochs_reducer"] = ["pass_at_2"]
    path.write_text(json.dumps(log))
    (taken,) = import_path(path, settings).runs
    assert taken.results[0].samples_path is None
    assert "reduced by pass_at_2" in taken.run.problems[0]


def test_what_is_no_finished_log_is_refused_in_a_sentence(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(inspect_log("org/a", BASE, status="error")))
    with pytest.raises(ClaimError, match="status is error"):
        import_path(path, settings)
    broken = tmp_path / "b.eval"
    broken.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ClaimError, match="is not a log of Inspect"):
        import_path(broken, settings)
    whole = write_archive(tmp_path / "c.eval", inspect_log("org/a", BASE), zstandard=True).read_bytes()
    broken.write_bytes(whole.replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\x00"))
    with pytest.raises(ClaimError, match="is not a log of Inspect"):
        import_path(broken, settings)
