"""Suites of a user on the command line: written, explained, listed; their data fetched; the sweep's schema and reference page."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from evals.errors import SuiteError
from evals.suite_file import read_suite_file
from orchestrator import cli
from orchestrator.cli.sweep import reference_page
from orchestrator.plan.sweep_schema import sweep_schema
from tests.support.hub_server import running
from tests.support.own_tasks import write_own_tasks

ROOT = Path(__file__).parents[3]


def called(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def test_a_suite_is_written_explained_and_the_same(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_tasks(tmp_path / "tasks")
    tasks = "own_choice,own_letters,own_pages,own_written,own_group,own_scored"
    refused = called("suite", "init", "my.yaml", "--tasks", tasks, "--include", "tasks")
    assert isinstance(refused.exception, SuiteError)
    assert "--allow-code own_scored" in str(refused.exception)
    made = called(
        "suite", "init", "my.yaml", "--tasks", tasks, "--include", "tasks", "--allow-code", "own_scored"
    )
    assert made.exit_code == 0, made.output
    text = (tmp_path / "my.yaml").read_text()
    assert "# 100 * mean over every document of acc_norm" in text
    assert 'metrics: ["exact_match,strict"]  # of the column; also computed: exact_match,flexible' in text
    suite = read_suite_file(tmp_path / "my.yaml")
    choice, letters, pages, _, group, scored = suite.benchmarks
    assert choice.subsets[0].choices is None  # two or three, as the question has
    assert (letters.subsets[0].choices, letters.subsets[0].n_documents) == (2, 12)
    assert pages.lower_is_better
    assert [s.overrides for s in group.subsets] == [{}, {"num_fewshot": 1}]
    assert scored.code == ("own_scored",)
    assert "replace it with --force" in str(called("suite", "init", "my.yaml", "--tasks", tasks).exception)
    explained = called("suite", "show", "my.yaml")
    assert "own_pages = 100 * mean over every byte of bits_per_byte (lower is better)" in explained.output
    assert "own_group = 100 * mean over 2 subsets of the mean of acc" in explained.output
    assert "runs the Python of own_scored" in explained.output
    # The same definition as of the tasks themselves, but for what the data says.
    (tmp_path / "short.yaml").write_text(f"tasks: [{tasks}]\ninclude: tasks\nallow_code: [own_scored]\n")
    for full, short in zip(
        suite.benchmarks, read_suite_file(tmp_path / "short.yaml").benchmarks, strict=True
    ):
        plain = [s.model_copy(update={"n_documents": None, "choices": None}) for s in full.subsets]
        assert plain == [s.model_copy(update={"choices": None}) for s in short.subsets]
        assert full.model_copy(update={"subsets": short.subsets}) == short


def test_data_is_fetched_from_the_hub(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "hub" / "data"
    (source / "ARC-Easy").mkdir(parents=True)
    (source / "other").mkdir()
    (source / "README.md").write_text(
        "---\nconfigs:\n- config_name: ARC-Easy\n  data_files:\n  - {split: test, path: ARC-Easy/test*}\n"
        "- config_name: ARC-Challenge\n  data_files: other/*\n---\n"
    )
    (source / "ARC-Easy/test.jsonl").write_text('{"a": 1}\n' * 50)
    (source / "other/large.jsonl").write_text("x" * 10_000)
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("MERGEBOARD_DATASETS", str(tmp_path / "mirror"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    with running() as hub:
        hub.repositories["allenai/ai2_arc"] = source
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        planned = called("data", "get", "arc_easy", "--dry-run", "--json")
        (row,) = json.loads(planned.stdout)["datasets"]
        assert (row["state"], row["files"]) == ("missing", 2)
        assert row["size_bytes"] < 1000
        fetched = called("data", "get", "arc_easy")
        assert fetched.exit_code == 0, fetched.output
        assert (tmp_path / "mirror/allenai/ai2_arc/ARC-Easy/test.jsonl").is_file()
        assert not (tmp_path / "mirror/allenai/ai2_arc/other").exists()
        sent = hub.sent_bytes
        assert "here" in called("data", "get", "arc_easy").output
        assert hub.sent_bytes == sent
        hub.gated.add("openai/gsm8k")
        hub.repositories["openai/gsm8k"] = source
        gated = called("data", "get", "gsm8k")
        assert (
            "openai/gsm8k is gated: accept its terms at https://huggingface.co/datasets/openai/gsm8k"
            in str(gated.exception)
        )


def test_the_reference_page_is_the_models(home: Path) -> None:
    page = (ROOT / "docs/sweep.md").read_text(encoding="utf-8")
    assert page == reference_page(), "write it anew: mergeboard sweep reference > docs/sweep.md"


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"recipes": ["(1, 2)", {"checkpoint": "org/name@sha"}], "suites": [{"tasks": ["a"]}]}, True),
        ({"engines": [{"kind": "transformers", "dtype": "float32"}], "chat_template": False}, True),
        ({"suits": ["smoke"]}, False),
        ({"suites": [{"suite": "smoke", "limits": 3}]}, False),
        ({"base": None}, False),
    ],
)  # fmt: skip
def test_the_schema_takes_what_a_sweep_may_say(change: dict[str, object], valid: bool) -> None:
    sweep = yaml.safe_load("name: s\nbase: b\nsuites: [smoke]\nengines: [vllm]\n") | change
    jsonschema.Draft202012Validator.check_schema(sweep_schema())
    assert jsonschema.Draft202012Validator(sweep_schema()).is_valid(sweep) is valid
