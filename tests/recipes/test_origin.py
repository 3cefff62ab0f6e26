"""The record of what a built checkpoint was made from: written by builds, read back by plans.

The embedded checkpoints, which were converted from quantised weights, are stood in for by tiny ones of the same names.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.compare.run_comparisons import weights_quantization
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.run.build import build_to
from orchestrator.run.plan_records import candidate_records
from orchestrator.settings import Settings
from recipes.artifact import ArtifactStore
from recipes.checkpoint import weights_digest
from recipes.checkpoint_files import ORIGIN_NAME
from recipes.demo import BASE, NOISE, WEIGHTS_FROM
from recipes.errors import CheckpointError
from recipes.recipe import SourceRef
from recipes.sources import read_facts
from tests.support.tiny_checkpoints import tiny_checkpoint

SWEEP = """\
name: s
base: {base}
recipes:
{recipes}
suites: [smoke]
engines: [transformers]
"""
MERGE = """\
  - name: merged
    mergekit:
      merge_method: linear
      dtype: bfloat16
      models:
        - {{model: {first}, parameters: {{weight: 0.5}}}}
        - {{model: {second}, parameters: {{weight: 0.5}}}}
"""


@pytest.fixture
def settings(home: Path) -> Settings:
    """A home with two embedded checkpoints of four layers."""
    for seed, name in enumerate((BASE, NOISE)):
        tiny_checkpoint(home / "demo" / "1" / name.removeprefix("demo/"), seed=seed)
    return Settings.from_environment()


@pytest.fixture
def built(settings: Settings, tmp_path: Path) -> Path:
    """A layer path of the embedded checkpoint, written by `mergeboard build`."""
    out = tmp_path / "built"
    build_to("(1, 3)", out, settings, base=BASE, sources=[])
    return out


def plan_of(base: str | Path, recipes: str, settings: Settings) -> Plan:
    text = SWEEP.format(base=base, recipes=recipes)
    return make_plan(parse_sweep(text.encode(), origin="s.yaml", folder=settings.home), settings)


def quantizations(plan: Plan) -> dict[str, str | None]:
    """What comparisons take as each candidate's quantisation."""
    records = {record.name: record for record in candidate_records(plan)}
    jobs = {planned.candidate: planned.job for planned in plan.evals}
    assert all(isinstance(job, EvalJob) for job in jobs.values())
    return {name: weights_quantization(job, records[name]) for name, job in jobs.items()}


def test_a_build_writes_what_it_was_made_from_without_changing_its_identity(
    built: Path, settings: Settings, tmp_path: Path
) -> None:
    record = json.loads((built / ORIGIN_NAME).read_text())
    (source,) = record["made_from"]
    assert (source["name"], source["quantization"]) == (BASE, WEIGHTS_FROM)
    assert record["chat_template_from"] == BASE
    assert len(record["chat_template_sha256"]) == 64
    with_record = weights_digest(built, tmp_path / "hashes")
    (built / ORIGIN_NAME).unlink()
    assert weights_digest(built, tmp_path / "hashes") == with_record
    # an artifact that a run built has it too
    (digest,) = ArtifactStore(settings.artifacts).digests()
    artifact = ArtifactStore(settings.artifacts).verify(digest)
    assert [
        entry.name for entry in read_facts(SourceRef(name=str(artifact.path)), home=settings.home).made_from
    ] == [BASE]


def test_a_built_checkpoint_compares_as_its_recipe_does_in_a_sweep(
    built: Path, settings: Settings, tmp_path: Path
) -> None:
    other = tiny_checkpoint(tmp_path / "other", seed=5)
    recipes = f"  - {{name: path, layer_path: '(1, 3)'}}\n  - {{name: built, checkpoint: {built}}}\n  - {{name: other, checkpoint: {other}}}\n"
    in_sweep = quantizations(plan_of(BASE, recipes + MERGE.format(first=BASE, second=NOISE), settings))
    assert in_sweep == {
        "base": WEIGHTS_FROM,
        "path": WEIGHTS_FROM,
        "merged": WEIGHTS_FROM,
        "built": WEIGHTS_FROM,
        "other": None,
    }


@pytest.mark.parametrize("materialize", [False, True])
def test_recipes_over_a_built_base_compare_with_it(
    built: Path, settings: Settings, tmp_path: Path, materialize: bool
) -> None:
    recipes = "  - {name: path, layer_path: '(0, 2)'}\n" + MERGE.format(first=built, second=built)
    if materialize:
        recipes += "materialize: true\n"
    plan = plan_of(built, recipes, settings)
    assert set(quantizations(plan).values()) == {WEIGHTS_FROM}


def test_a_checkpoint_built_of_a_built_one_names_both(
    built: Path, settings: Settings, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    build_to("(0, 1)", again, settings, base=str(built), sources=[])
    facts = read_facts(SourceRef(name=str(again)), home=settings.home)
    assert [(entry.name, entry.quantization) for entry in facts.made_from] == [
        ("built", None),
        (BASE, WEIGHTS_FROM),
    ]


def test_a_copy_without_its_record_is_a_checkpoint_of_unknown_origin(
    built: Path, settings: Settings, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, ignore=shutil.ignore_patterns(ORIGIN_NAME))
    assert read_facts(SourceRef(name=str(copy)), home=settings.home).made_from == ()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "recipe_digest": 3}', "[" * 100_000]
)
def test_a_record_that_is_none_is_refused_in_one_sentence(built: Path, settings: Settings, text: str) -> None:
    (built / ORIGIN_NAME).write_text(text)
    with pytest.raises(
        CheckpointError, match="is no record of this version of mergeboard: build the checkpoint again"
    ) as error:
        read_facts(SourceRef(name=str(built)), home=settings.home)
    assert "\n" not in str(error.value)
