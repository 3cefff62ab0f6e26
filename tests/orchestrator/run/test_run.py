"""The whole chain with real parts: a sweep of tiny checkpoints on Ray, its store, and what commands say about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.store import Store
from tests.support.runs_fixture import Finished, mergeboard


def store_of(finished: Finished) -> Store:
    return Store.open(f"sqlite:///{finished.home}/store.sqlite", create=False, read_only=True)


def test_every_job_is_done_with_scores_samples_and_provenance(finished: Finished) -> None:
    with store_of(finished) as store:
        record = store.run(finished.run_id)
        results = results_of_run(store, finished.run_id)
    assert record.state == "done"
    assert "torch" in record.provenance.versions
    assert [r.candidate.name for r in results] == ["base", "(1, 2)", "baseline again", "merged"]
    for result in results:
        for job, outcome in result.evaluated:
            table = pq.read_table(finished.home / outcome.samples_path)
            assert table.num_rows == outcome.evaluation.result.n
            assert outcome.evaluation.result.partial
            assert job.benchmark in ("bbh", "musr")
    layers = {r.candidate.name: r.candidate.layers for r in results}
    assert layers == {"base": 4, "(1, 2)": 5, "baseline again": 4, "merged": 4}


def test_the_baseline_path_is_the_base_itself(finished: Finished) -> None:
    with store_of(finished) as store:
        results = {r.candidate.name: r for r in results_of_run(store, finished.run_id)}
    digests = [[job.digest for job, _ in results[name].evaluated] for name in ("base", "baseline again")]
    assert digests[0] == digests[1]


def test_differences_are_paired(finished: Finished) -> None:
    with store_of(finished) as store:
        results = results_of_run(store, finished.run_id)
    compared = {c.candidate: c for c in run_comparisons(results, finished.home)}
    assert set(compared) == {"(1, 2)", "baseline again", "merged"}
    for row in compared["baseline again"].rows:
        assert row.delta is not None
        assert row.delta.delta_points == 0
        assert not row.significant


def test_running_it_again_reuses_everything(finished: Finished) -> None:
    before = (finished.home / "store.sqlite").read_bytes()
    again = mergeboard("run", str(finished.sweep), home=finished.home)
    assert again.returncode == 0, again.stderr
    assert finished.run_id in again.stdout
    assert (finished.home / "store.sqlite").read_bytes() == before


def test_another_sweep_of_the_same_jobs_needs_no_cluster(finished: Finished, tmp_path: Path) -> None:
    own = replace(finished, home=tmp_path / "home")
    shutil.copytree(finished.home, own.home)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(finished.sweep.read_text().replace("name: tiny", "name: same again"))
    again = mergeboard("run", str(sweep), home=own.home, RAY_TMPDIR="/dev/null/none")
    assert again.returncode == 0, again.stderr
    with store_of(own) as store:
        (run,) = [run for run in store.runs() if run.name == "same again"]
        assert (run.state, run.owner) == ("done", None)
    sweep.write_text(sweep.read_text().replace("limit: 6", "limit: 5"))
    more = mergeboard("run", str(sweep), home=own.home, RAY_TMPDIR="/dev/null/none")
    assert more.returncode != 0, "this one does need a cluster, which cannot start there"


def test_status_compare_card_and_plan_read_the_store(finished: Finished) -> None:
    status = mergeboard("status", "--json", home=finished.home)
    assert json.loads(status.stdout)[0]["state"] == "done"
    one = mergeboard("status", finished.run_id, home=finished.home)
    assert "done" in one.stdout
    compared = mergeboard("compare", "merged", "--run", finished.run_id, "--json", home=finished.home)
    assert compared.returncode == 0, compared.stderr
    assert json.loads(compared.stdout)[0]["candidate"] == "merged"
    everything = mergeboard("compare", "--run", finished.run_id, home=finished.home)
    assert "baseline again" in everything.stdout
    plan = mergeboard("plan", str(finished.sweep), home=finished.home)
    assert "nothing is left to do" in plan.stdout
    planned = json.loads(mergeboard("plan", str(finished.sweep), "--json", home=finished.home).stdout)
    assert all(job["cached"] for job in planned["jobs"])


def test_smoke_scores_are_marked_and_never_spliced(finished: Finished, tmp_path: Path) -> None:
    printed = mergeboard("card", "merged", home=finished.home)
    assert printed.returncode == 0, printed.stderr
    entries = yaml.safe_load(printed.stdout)["model-index"][0]["results"]
    assert entries
    assert all("smoke" in entry["dataset"]["type"] for entry in entries)
    readme = tmp_path / "README.md"
    readme.write_text("---\nlicense: mit\n---\nhello\n")
    refused = mergeboard("card", "merged", "--update", str(readme), home=finished.home)
    assert refused.returncode == 2
    assert readme.read_text() == "---\nlicense: mit\n---\nhello\n"


def test_export_and_cache(finished: Finished, tmp_path: Path) -> None:
    exported = mergeboard("export", "--out", str(tmp_path / "out"), home=finished.home)
    assert exported.returncode == 0, exported.stderr
    assert list((tmp_path / "out").rglob("*.parquet"))
    listed = mergeboard("cache", "list", home=finished.home)
    assert "1 artifacts" in listed.stdout
