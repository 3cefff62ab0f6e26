"""Data sets: found, missing or gated, never mixed up; GPQA's choices in one order."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from evals.datasets import DatasetState, check, content_digest, find_dataset, require_content
from evals.errors import DatasetChanged, DatasetError
from evals.harness.tasks import load_tasks
from evals.scores import ChatTemplate, EvalSettings
from evals.suite import Benchmark, load_suite
from evals.tasks.gpqa import LOADING_ORDER, choice_order
from tests.support.gpqa_rows import CONFIGS, write_gpqa

PLAIN = EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False, add_bos_token=False)


def v2(name: str) -> Benchmark:
    return load_suite("leaderboard-v2").benchmark(name)


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub cache of this machine, and a prepared-data cache of the test's own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "prepared")


def test_a_missing_data_set_comes_with_its_command(tmp_path: Path) -> None:
    status = check(v2("musr"), tmp_path / "mirror")
    assert (status.state, status.location) == (DatasetState.MISSING, None)
    assert status.command == (
        f"hf download --repo-type dataset TAUR-Lab/MuSR --local-dir {tmp_path / 'mirror' / 'TAUR-Lab/MuSR'}"
    )
    assert check(v2("musr"), None).command == "hf download --repo-type dataset TAUR-Lab/MuSR"
    with pytest.raises(DatasetError, match=r"needs the data set TAUR-Lab/MuSR.*Get it with: hf download"):
        find_dataset(v2("musr"), None)


def test_a_gated_data_set_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = check(v2("gpqa"), tmp_path)
    assert status.state is DatasetState.GATED
    assert (status.command or "").startswith("hf auth login && hf download")
    assert "https://huggingface.co/datasets/Idavidrein/gpqa" in (status.reason or "")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert (check(v2("gpqa"), tmp_path).command or "").startswith("hf download")
    write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 1))
    assert check(v2("gpqa"), tmp_path).state is DatasetState.AVAILABLE


def test_a_half_data_set_is_missing(tmp_path: Path) -> None:
    folder = write_gpqa(tmp_path, {"gpqa_main": 1, "gpqa_diamond": 1})
    assert "no configuration gpqa_extended" in (check(v2("gpqa"), tmp_path).reason or "")
    write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 1))
    (folder / "gpqa_main" / "train.parquet").unlink()
    assert "lacks gpqa_main/train.parquet" in (check(v2("gpqa"), tmp_path).reason or "")
    for file in folder.rglob("*.parquet"):
        file.unlink()
    assert "has no data files" in (check(v2("gpqa"), tmp_path).reason or "")


def test_the_hubs_cache_serves_where_there_is_no_mirror(tmp_path: Path) -> None:
    snapshot = tmp_path / "hf/hub/datasets--TAUR-Lab--MuSR/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("---\n: not yaml [\n---\n")
    assert check(v2("musr"), None).state is DatasetState.MISSING
    (snapshot / "murder_mystery.csv").write_text("x\n")
    assert find_dataset(v2("musr"), None) == snapshot
    assert find_dataset(v2("musr"), None, tmp_path / "hf") == snapshot


def test_shipped_data_is_always_there() -> None:
    for benchmark in load_suite("smoke").benchmarks:
        assert check(benchmark, None).state is DatasetState.AVAILABLE


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    questions = []
    for mark in ("old ", "new "):
        folder = write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 2), mark=mark)
        task = load_tasks(v2("gpqa"), PLAIN, tmp_path)["leaderboard_gpqa_main"]
        questions.append(task.eval_docs[0]["Question"])
    assert questions == ["old gpqa_main 0?", "new gpqa_main 0?"]
    assert content_digest(folder, v2("gpqa")) != content_digest(
        write_gpqa(tmp_path / "other", dict.fromkeys(CONFIGS, 2)), v2("gpqa")
    )


def test_data_is_known_by_what_its_tasks_read(tmp_path: Path) -> None:
    gpqa = v2("gpqa")
    folder = write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 2))
    first = content_digest(folder, gpqa)
    readme = folder / "README.md"
    readme.write_text(readme.read_text() + "\nOther prose.\n")
    (folder / "gpqa_experts").mkdir()
    (folder / "gpqa_experts" / "train.parquet").write_bytes(b"another configuration")
    assert content_digest(folder, gpqa) == first
    # The README maps files to splits: another mapping is other data.
    readme.write_text(readme.read_text().replace("gpqa_main/train.parquet", "gpqa_diamond/train.parquet"))
    assert content_digest(folder, gpqa) != first


def test_data_that_was_swapped_after_planning_is_refused(tmp_path: Path) -> None:
    gpqa = v2("gpqa")
    folder = write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 2), mark="old ")
    planned = content_digest(folder, gpqa)
    require_content(folder, gpqa, planned)
    file = folder / "gpqa_main" / "train.parquet"
    before = file.stat()
    data = file.read_bytes()
    with file.open("r+b") as stream:  # the same inode and size, and the time set back
        stream.write(data.replace(b"old ", b"new "))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DatasetChanged, match="not what was planned"):
        require_content(folder, gpqa, planned)


def test_data_that_the_task_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    folder = write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 2))
    (folder / "gpqa_main" / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match="does not fit its tasks"):
        load_tasks(v2("gpqa"), PLAIN, tmp_path)


def answers(mirror: Path) -> dict[str, list[str]]:
    tasks = load_tasks(v2("gpqa"), PLAIN, mirror)
    return {name: list(task.eval_docs["answer"]) for name, task in tasks.items()}


def test_gpqa_has_one_order_whatever_ran_before(tmp_path: Path) -> None:
    write_gpqa(tmp_path, dict.fromkeys(CONFIGS, 8))
    first = answers(tmp_path)
    random.seed(99)
    random.random()
    assert answers(tmp_path) == first
    code = (
        "import json, sys; from pathlib import Path; from tests.evals.test_datasets import answers; "
        "print(json.dumps(answers(Path(sys.argv[1]))))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(out.stdout.splitlines()[-1]) == first
    assert len({a for found in first.values() for a in found}) > 1


def test_gpqa_has_the_order_of_stock_lm_eval_with_the_boards_seed(tmp_path: Path) -> None:
    """All three configurations in full size, loaded by stock lm-eval with seed 0 and a clean cache."""
    import lm_eval.tasks

    folder = write_gpqa(tmp_path, dict(LOADING_ORDER))
    stock_folder = Path(lm_eval.tasks.__file__).parent / "leaderboard" / "gpqa"
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=str(stock_folder))
    own = {"dataset_path": str(folder), "dataset_kwargs": {"cache_dir": str(tmp_path / "clean")}}
    random.seed(0)
    stock = manager.load(
        [{"group": "g", "task": [{"task": f"leaderboard_{c}", **own} for c, _ in LOADING_ORDER]}]
    )["tasks"]
    ours = load_tasks(v2("gpqa"), PLAIN, tmp_path)
    for name, task in stock.items():
        for column in ("choice1", "choice2", "choice3", "choice4", "answer"):
            assert list(task.eval_docs[column]) == list(ours[name].eval_docs[column])


def test_rows_that_gpqa_does_not_have_have_an_order_too() -> None:
    orders = [choice_order("own", row) for row in range(100)]
    assert orders == [choice_order("own", row) for row in range(100)]
    assert {tuple(sorted(o)) for o in orders} == {(0, 1, 2, 3)}
    assert len(set(orders)) > 15
