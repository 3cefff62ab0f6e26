"""The Parquet export: every score and sample, joined by job, whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evals.errors import SamplesError
from evals.samples import write_samples
from evals.scores import Sample
from orchestrator.errors import RunError, StoreError
from orchestrator.exchange import parquet as export
from orchestrator.plan.job import EvalJob
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import Acceptance, AttemptRecord
from tests.support.store_data import N_DEMO, build_job, build_outcome, demo_run, eval_outcome


def sample(job: EvalJob, number: int) -> Sample:
    return Sample(
        benchmark=job.benchmark,
        subset=f"{job.benchmark}_{number % 2}",
        doc_id=number,
        doc_hash="d" * 16,
        prompt_hash="p" * 16,
        target="(A)",
        choices=("(A)", "(B)"),
        logprobs=(-1.0, -2.0),
        response="<script>alert(1)</script>\0\n" * number,
        metrics={"acc": 1.0, "acc_norm": 0.0},
        correct=float(number % 2),
    )


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=url, datasets=None, ray_address=None)


@pytest.fixture
def run_id(settings: Settings) -> str:
    """Two runs of the demo that share their jobs; all but one of them done, with samples. The id of the first."""
    ids = []
    with Store.open(settings.database_url) as store:
        for name in ("first", "second"):
            run, candidates, planned = demo_run(name)
            ids.append(run.id)
            store.create_run(run, candidates, planned, owner="me")
        lease = store.take_lease(ids[0], "me")
        assert lease is not None
        for item in planned[:-1]:
            job = item.job
            attempt = store.start_attempt(lease, job.digest)
            assert isinstance(attempt, AttemptRecord)
            if not isinstance(job, EvalJob):
                store.finish_attempt(attempt.id, build_outcome(build_job()))
                continue
            outcome = eval_outcome(job)
            path = settings.home / outcome.samples_path
            write_samples(path, [sample(job, number) for number in range(20)])
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            outcome = outcome.model_copy(update={"samples_sha256": digest})
            assert store.finish_attempt(attempt.id, outcome) is Acceptance.ACCEPTED
    return ids[0]


def test_everything_is_there_and_joins(settings: Settings, run_id: str, tmp_path: Path) -> None:
    files = export.export_parquet(settings, tmp_path / "out")
    assert [path.name for path in files] == [
        "candidates.parquet",
        "benchmarks.parquet",
        "scores.parquet",
        "samples.parquet",
    ]
    candidates, benchmarks, scores, samples = (pq.read_table(path).to_pandas() for path in files)
    # Candidates that share an evaluation have a row each.
    rows = 2 * (5 + 2 * (N_DEMO - 3))
    assert (len(candidates), len(benchmarks), len(scores), len(samples)) == (rows, 5, 10, 100)
    assert set(candidates.run_name) == {"first", "second"}
    digests = set(benchmarks.job_digest)
    assert set(candidates.job_digest) == set(scores.job_digest) == set(samples.job_digest) == digests
    path = benchmarks[benchmarks.layer_path.notna()].iloc[0]
    assert list(path.layer_path) == [0, 1, 2, 1, 2, 3]
    assert benchmarks.visits.isna().all(), "all visits are whole"
    assert (path.engine, path.chat_template, path.limit, path.remark) == (
        "transformers",
        "on",
        20,
        "limit 20",
    )
    assert list(path.alarms) == ["empty"]
    merged = samples.merge(benchmarks, on=["job_digest", "benchmark"])
    assert len(merged) == 100
    assert samples.response.iloc[2] == "<script>alert(1)</script>\0\n" * 2
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == sorted(path.name for path in files)


def test_one_run_alone(settings: Settings, run_id: str, tmp_path: Path) -> None:
    candidates = pq.read_table(
        export.export_parquet(settings, tmp_path / "out", run_id=run_id)[0]
    ).to_pandas()
    assert set(candidates.run_id) == {run_id}
    with pytest.raises(RunError, match="no run nowhere"):
        export.export_parquet(settings, tmp_path / "none", run_id="nowhere")
    assert not (tmp_path / "none").exists()


def test_many_evaluations_are_read_and_written_in_pieces(
    settings: Settings, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [pq.read_table(path) for path in export.export_parquet(settings, tmp_path / "whole")]
    monkeypatch.setattr(export, "_BATCH", 2)
    monkeypatch.setattr(export, "_ROWS", 30)
    files = export.export_parquet(settings, tmp_path / "pieces")
    assert [pq.read_table(path).to_pylist() for path in files] == [table.to_pylist() for table in whole]
    assert pq.ParquetFile(files[3]).num_row_groups == 3


def test_a_missing_samples_file_stops_the_export_before_it_begins(
    settings: Settings, run_id: str, tmp_path: Path
) -> None:
    next((settings.home / "samples").iterdir()).unlink()
    with pytest.raises(StoreError, match=r"1 of 5 samples files are missing, first .*MERGEBOARD_HOME"):
        export.export_parquet(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_samples_file_that_was_changed_is_not_exported(
    settings: Settings, run_id: str, tmp_path: Path
) -> None:
    victim = next((settings.home / "samples").iterdir())
    victim.write_bytes(victim.read_bytes() + b"x")
    with pytest.raises(
        SamplesError, match=r"of job [0-9a-f]{16}, .* are not those that were stored \(their sha256 differs\)"
    ):
        export.export_parquet(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "samples.parquet").exists()
    assert not list((tmp_path / "out").glob(".*"))


def test_an_empty_store_makes_empty_files(settings: Settings, tmp_path: Path) -> None:
    Store.open(settings.database_url).close()
    assert [pq.read_table(path).num_rows for path in export.export_parquet(settings, tmp_path / "out")] == [
        0
    ] * 4


def test_a_folder_that_cannot_be_written(settings: Settings, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        export.export_parquet(settings, tmp_path / "file")
