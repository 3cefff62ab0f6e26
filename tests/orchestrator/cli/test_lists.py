"""What there is: suites, benchmarks, probes, recipes of the catalogue, fields of a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evals.probes import SCAN_KEYS, probe_keys
from evals.suite import load_suite, suite_names
from orchestrator import cli
from orchestrator.plan.sweep import EngineEntry, Sweep
from recipes.catalog import catalog_names
from recipes.recipe import Recipe


def shown(*words: str) -> str:
    result = CliRunner().invoke(cli.app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def data(*words: str) -> Any:
    return json.loads(shown(*words, "--json"))


def test_suites_and_their_benchmarks() -> None:
    suites = {suite["name"]: suite for suite in data("suite", "list")}
    assert set(suites) == {*suite_names(), "probes"}
    for name in suite_names():
        benchmarks = [benchmark.name for benchmark in load_suite(name).benchmarks]
        assert suites[name]["benchmarks"] == benchmarks
        assert [b["name"] for b in data("suite", "show", name)["benchmarks"]] == benchmarks
        text = shown("suite", "show", name)
        assert all(benchmark in text for benchmark in benchmarks)
        assert name in shown("suite", "list")


def test_probes() -> None:
    probes = data("suite", "show", "probes")
    assert [probe["key"] for probe in probes] == list(probe_keys())
    assert {probe["key"] for probe in probes if probe["asked_by_default"]} == set(SCAN_KEYS)
    assert all(key in shown("suite", "show", "probes") for key in probe_keys())


def test_recipes_of_the_catalogue(tmp_path: Path) -> None:
    assert [recipe["name"] for recipe in data("recipe", "list")] == list(catalog_names())
    for name in catalog_names():
        assert name in shown("recipe", "list")
        file = tmp_path / f"{name}.yaml"
        file.write_text(shown("recipe", "show", name))
        assert Recipe.load(file).sources
        assert data("recipe", "show", name)["text"] == file.read_text()


def test_fields_of_a_sweep() -> None:
    fields = {field["field"]: field for field in data("sweep", "fields")}
    assert set(Sweep.model_fields) <= set(fields)
    assert {f"engines[].{name}" for name in EngineEntry.model_fields} <= set(fields)
    assert fields["engines[].dtype"]["takes"] == "bfloat16, float16, float32"
    assert fields["engines[].execution"]["takes"] == "eager, graphs, compiled"
    assert (fields["base"]["default"], fields["chat_template"]["default"]) == ("required", '"auto"')
    text = shown("sweep", "fields")
    assert all(name in text for name in fields)


@pytest.mark.parametrize("group", ["suite", "recipe", "sweep", "cache", "db"])
def test_a_group_alone_says_that_a_command_is_missing(group: str) -> None:
    assert CliRunner().invoke(cli.app, [group]).exit_code == 2
