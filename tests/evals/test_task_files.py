"""A benchmark's task files are part of what a score is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evals import task_files
from evals.suite import load_suite
from evals.task_files import lm_eval_tasks, task_digest, task_folder

V2 = load_suite("leaderboard-v2")


@pytest.mark.parametrize("name", ["ifeval", "bbh", "math", "gpqa", "musr", "mmlu-pro"])
def test_an_edited_task_file_of_lm_eval_changes_the_digest(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = V2.benchmark(name)
    first = task_digest(benchmark)
    shutil.copytree(lm_eval_tasks() / "leaderboard", tmp_path / "leaderboard")
    monkeypatch.setattr(task_files, "lm_eval_tasks", lambda: tmp_path)
    assert task_digest(benchmark) == first
    file = next(task_folder(benchmark).rglob("*.yaml"))
    file.write_text(file.read_text() + "\n# a change\n")
    assert task_digest(benchmark) != first


def test_our_own_task_files_and_functions_have_digests() -> None:
    digests = {task_digest(benchmark) for benchmark in (*load_suite("smoke").benchmarks, *V2.benchmarks)}
    assert len(digests) >= 7
