"""The command that repeats a job: what a job's page shows is run by a shell, and its sweep plans the very same job."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from dashboard.pages.job import base_place
from dashboard.repeat import EvaluatedSide, repeat_command, together_command
from evals.scores import PROBE_SUITE
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import load_sweep, sweep_of_values
from orchestrator.run.build import build_job, parse_source, read_recipe
from orchestrator.run.run import register
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import CandidateRecord
from tests.support.tiny_checkpoints import tiny_checkpoint


@pytest.fixture
def plan(home: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A run of everything that a job's identity depends on: built, live, another checkpoint's path; suites and a probe."""
    other = tiny_checkpoint(tmp_path / "the other's", seed=7)
    monkeypatch.chdir(tiny_llama.parent)
    merged = {
        "merge_method": "linear",
        "dtype": "bfloat16",
        "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("one", "two")],
    }
    theirs = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": "two", "layer_range": span}]} for span in ([0, 3], [1, 4])],
    }
    file = sweep_of_values(
        {
            "name": "everything",
            "base": tiny_llama.name,
            "sources": {"one": str(tiny_llama), "two": str(other)},
            "recipes": [
                {"name": "live $(path) 'quoted'", "layer_path": "(1, 3)"},
                {"name": "skips", "layer_path": [0, 1, 3]},
                {"name": "merged", "mergekit": merged},
                {"name": "their path", "mergekit": theirs},
            ],
            "suites": [
                {"suite": "smoke", "benchmarks": ["bbh"], "limit": 3},
                {"suite": PROBE_SUITE, "benchmarks": ["reasoning-easy-scored-search"]},
            ],
            "engines": [
                {"kind": "transformers", "dtype": "float32", "max_length": 256},
                {"kind": "vllm", "dtype": "bfloat16", "kv_cache_dtype": "fp8", "tensor_parallel": 2},
            ],
            "chat_template": "on",
            "seeds": {"random": 11, "numpy": 12, "torch": 13, "fewshot": 14},
            "build_seed": 5,
        },
        origin="test",
    )
    return make_plan(file, Settings.from_environment())


def shown(plan: Plan, digest: str) -> str | None:
    """What the page of a job shows."""
    url = Settings.from_environment().database_url
    with Store.open(url) as store:
        run_id = register(store, plan)
    with Pages.open(url, create=False, read_only=True) as pages:
        assert isinstance(pages, Pages)
        run = pages.run(run_id)
        found = pages.job_detail(digest, run_id)
        assert found is not None
        job, build = found.job, None
        if isinstance(job, EvalJob) and job.place.artifact is not None:
            made = pages.job_detail(job.place.artifact, run_id)
            assert made is not None
            assert isinstance(made.job, BuildJob)
            build = made.job
        elif isinstance(job, EvalJob) and job.live_merge is not None:
            build = job.live_merge.build
        return repeat_command(job, found.candidates[0], base_place(pages, run), build)


def obeyed(command: str, folder: Path) -> list[str]:
    """Let a shell run the command somewhere else; the words that it gives to mergeboard."""
    folder.mkdir()
    tool = folder / "mergeboard"
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words\n')
    tool.chmod(0o755)
    subprocess.run(["bash", "-euc", command], cwd=folder, env={"PATH": f"{folder}:/usr/bin:/bin"}, check=True)
    return (folder / "words").read_text().splitlines()


def test_each_job_is_planned_again_with_the_same_digest(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evals = {planned.job.digest: planned for planned in plan.evals}
    assert len(evals) == 2 * 2 * 5
    for number, (digest, planned) in enumerate(evals.items()):
        command = shown(plan, digest)
        assert command is not None
        folder = tmp_path / str(number)
        assert obeyed(command, folder) == ["run", "job.yaml"]
        monkeypatch.chdir(folder)
        again = make_plan(load_sweep(folder / "job.yaml"), Settings.from_environment())
        assert [e.job.digest for e in again.evals] == [digest], (planned.candidate, command)


def test_layer_paths_that_were_built_are_built_again(
    home: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "name": "built",
        "base": str(tiny_llama),
        "recipes": [{"name": "twice", "layer_path": "(0, 4)"}],
        "suites": [{"suite": PROBE_SUITE, "benchmarks": ["reasoning-easy-scored-search"]}],
        "engines": ["transformers"],
        "materialize": True,
    }
    built = make_plan(sweep_of_values(values, origin="test"), Settings.from_environment())
    for number, job in enumerate(built.jobs.values()):
        command = shown(built, job.digest)
        assert command is not None
        folder = tmp_path / str(number)
        words = obeyed(command, folder)
        monkeypatch.chdir(folder)
        if isinstance(job, BuildJob):
            assert words[:2] == ["build", "recipe.yaml"]
            given = [words[n + 1] for n, word in enumerate(words) if word == "--source"]
            recipe = read_recipe("recipe.yaml", None).with_sources(dict(map(parse_source, given)))
            again = build_job(recipe, Settings.from_environment())
            assert again.digest == job.digest, command
        else:
            made = make_plan(load_sweep(folder / "job.yaml"), Settings.from_environment())
            assert [e.job.digest for e in made.evals] == [job.digest], command
            assert [b.digest for b in made.builds] == list(job.needs)


def test_a_home_of_its_own_runs_what_is_done_here(plan: Plan) -> None:
    digest = plan.evals[0].job.digest
    command = shown(plan, digest)
    assert command is not None
    last = shlex.split(command.splitlines()[-1])
    assert last[:3] == ["env", "-u", "MERGEBOARD_DATABASE_URL"]
    assert last[3] == f"MERGEBOARD_HOME=$PWD/repeat-{digest}"


def test_two_sides_are_put_into_one_sweep_with_the_settings_of_the_first(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a refused comparison advises: the base's own job is planned again, and the other side with its settings."""
    first = {name: next(e for e in plan.evals if e.candidate == name) for name in ("base", "skips", "merged")}
    sides = {
        name: EvaluatedSide(
            candidate=_record(number, name, planned.job),
            job=planned.job,
            build=planned.job.live_merge.build if planned.job.live_merge else None,
            benchmarks=(planned.job.benchmark,),
        )
        for number, (name, planned) in enumerate(first.items())
    }
    place = first["base"].job.place.name
    for name in ("skips", "merged"):
        command = together_command([sides["base"], sides[name]], place)
        assert command is not None
        folder = tmp_path / name
        assert obeyed(command, folder) == ["run", "sweep.yaml"]
        monkeypatch.chdir(folder)
        again = make_plan(load_sweep(folder / "sweep.yaml"), Settings.from_environment())
        digests = [first["base"].job.digest, first[name].job.digest]
        assert [e.job.digest for e in again.evals] == digests, command


def _record(position: int, name: str, job: EvalJob) -> CandidateRecord:
    return CandidateRecord(
        position=position,
        name=name,
        is_base=not position,
        weights_digest=job.weights_digest,
        layer_path=job.layer_path,
    )
