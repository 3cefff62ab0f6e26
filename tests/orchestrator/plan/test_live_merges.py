"""Which merges run live, why others are built, and that a job is the same either way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.engine import DeviceKind, EngineKind, InstalledEngine
from evals.engines import installed_engine
from orchestrator.errors import SweepError
from orchestrator.plan.job import EvalJob, job_from_json
from orchestrator.plan.plan import Installed, Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings
from orchestrator.store.rows import run_spec
from tests.support.merge_recipes import SOURCES, method_recipe
from tests.support.replaced_weights import sources_of_family
from tests.support.tiny_checkpoints import tiny_checkpoint

SLERP = json.loads(method_recipe("slerp"))
LINEAR = json.loads(method_recipe("linear"))
TWO_STAGES = [
    {**SLERP, "name": "first"},
    {
        "merge_method": "task_arithmetic",
        "base_model": "org/base",
        "models": [
            {"model": "first", "parameters": {"weight": 1}},
            {"model": "org/two", "parameters": {"weight": 1}},
        ],
    },
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sources_of_family(tmp_path, "llama")


def planned(
    folder: Path,
    recipe: Any,
    entry: dict[str, Any] | None = None,
    installed: Installed = installed_engine,
    **sweep: Any,
) -> Plan:
    stages = recipe if isinstance(recipe, list) else [recipe]
    (folder / "recipe.yaml").write_text("---\n".join(json.dumps(stage) + "\n" for stage in stages))
    values = {
        "name": "s",
        "base": str(folder / "org/base"),
        "recipes": [{"name": "merged", "file": "recipe.yaml", **(entry or {})}],
        "sources": {source: str(folder / source) for source in SOURCES},
        "suites": ["smoke"],
        "engines": ["transformers"],
        **sweep,
    }
    file = parse_sweep(json.dumps(values).encode(), origin="s.yaml", folder=folder)
    return make_plan(file, Settings.from_environment(), installed=installed)


def reason(plan: Plan) -> str:
    """Why the merge is built; empty if it runs live."""
    candidate = plan.candidates[1]
    assert (candidate.live_merge is None) == (candidate.build is not None)
    assert (candidate.built_because is None) == (not plan.notes)
    assert all(candidate.built_because or "" in note for note in plan.notes)
    return candidate.built_because or ""


@pytest.mark.parametrize("entry", [{"materialize": True}, {}], ids=["recipe", "sweep"])
def test_a_job_is_the_same_live_and_built(folder: Path, home: Path, entry: dict[str, Any]) -> None:
    live = planned(folder, SLERP)
    built = planned(folder, SLERP, entry, materialize=not entry)
    assert reason(live) == reason(built) == ""
    assert (len(live.builds), len(built.builds)) == (0, 1)
    jobs = [[p.job for p in plan.evals if p.candidate == "merged"] for plan in (live, built)]
    assert [job.digest for job in jobs[0]] == [job.digest for job in jobs[1]]
    job, base = jobs[0][0], live.evals[0].job
    assert job.live_merge is not None
    assert job.live_merge.build == built.builds[0]
    assert (job.needs, job.opened_digest, job.engine_key) == ((), base.weights_digest, base.engine_key)
    assert live.needs[job.engine_key] == live.needs[base.engine_key]
    assert job_from_json(job.model_dump_json()) == job
    stored = json.loads(run_spec(job))
    assert (
        EvalJob.model_validate({**job.model_dump(exclude={"place", "tuning", "live_merge"}), **stored}) == job
    )


def test_stages_run_live_where_their_results_fit(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason(planned(folder, TWO_STAGES)) == ""
    monkeypatch.setenv("MERGEBOARD_MERGE_MEMORY_GIB", "0.0001")
    assert "need 0.0 GB of memory and 0.0 GB are allowed" in reason(planned(folder, TWO_STAGES))
    assert reason(planned(folder, SLERP)) == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tokenizer": {"source": "base", "pad_to_multiple_of": 1000}}, "it changes the vocabulary"),
        (
            {"merge_method": "dare_linear", "tokenizer_source": "base", "base_model": "org/base"},
            "in another order",
        ),
        ({"chat_template": "chatml"}, "it sets a chat template"),
        ({"models": [{"model": "org/one+org/two", "parameters": {"weight": 1}}]}, "LoRA adapters"),
    ],
)
def test_what_the_recipe_sets(folder: Path, home: Path, change: dict[str, Any], expected: str) -> None:
    if "+" in json.dumps(change):
        (folder / "org/two/adapter_config.json").write_text("{}")
        for name in ("config.json", "model.safetensors"):
            (folder / "org/two" / name).unlink()
    assert expected in reason(planned(folder, LINEAR | change))


def token_rows(checkpoint: Path) -> int:
    """Number of tokens of its tokenizer."""
    return len(json.loads((checkpoint / "tokenizer.json").read_text())["model"]["vocab"])


@pytest.mark.parametrize("rule", ["base", "union", {"source": {"model": "org/two"}}], ids=str)
def test_a_tokenizer_that_all_sources_have_is_no_obstacle(folder: Path, home: Path, rule: Any) -> None:
    for source in SOURCES:
        tiny_checkpoint(folder / source, seed=len(source), vocabulary=token_rows(folder / source))
    recipe = SLERP | ({"tokenizer_source": rule} if isinstance(rule, str) else {"tokenizer": rule})
    assert reason(planned(folder, recipe)) == ""
    edit(folder / "org/one", "tokenizer_config.json", model_max_length=77)
    assert "org/one differs from that of" in reason(planned(folder, recipe))
    shutil.copy(folder / "org/base/tokenizer_config.json", folder / "org/one")
    jobs = [{p.job.digest for p in planned(folder, recipe, **s).evals} for s in ({}, {"materialize": True})]
    assert jobs[0] == jobs[1]


def test_an_embedding_has_one_row_for_each_token(folder: Path, home: Path) -> None:
    for source in SOURCES:
        tiny_checkpoint(folder / source, vocabulary=2 * token_rows(folder / source))
    assert "rows for" in reason(planned(folder, SLERP | {"tokenizer_source": "base"}))
    stages = [{**TWO_STAGES[0], "tokenizer_source": "base"}, {**TWO_STAGES[1], "tokenizer_source": "base"}]
    assert "results of earlier stages" in reason(planned(folder, stages))


def edit(checkpoint: Path, file: str, **values: Any) -> None:
    path = checkpoint / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_config_and_files_of_the_donor_are_those_of_the_base(folder: Path, home: Path) -> None:
    """The donor of a linear merge without a base is its first input."""
    assert reason(planned(folder, LINEAR)) == ""
    edit(folder / "org/one", "config.json", transformers_version="1", torch_dtype="float64")
    assert reason(planned(folder, LINEAR)) == ""
    edit(folder / "org/two", "config.json", rope_theta=5)
    assert reason(planned(folder, LINEAR)) == ""
    edit(folder / "org/one", "generation_config.json", repetition_penalty=1.2)
    assert "its generation_config.json comes from" in reason(planned(folder, LINEAR))
    assert reason(planned(folder, json.loads(method_recipe("task_arithmetic")))) == ""
    edit(folder / "org/one", "config.json", rope_theta=5)
    assert "differs from" in reason(planned(folder, LINEAR))
    assert "in rope_theta" in reason(planned(folder, LINEAR))


def test_shapes_are_those_of_the_base(folder: Path, home: Path) -> None:
    one = folder / "org/one"
    stacked = {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": model, "layer_range": [0, layers]}]}
            for model, layers in (("org/one", 3), ("org/two", 2))
        ],
    }
    assert "it has 5 layers and" in reason(planned(folder, stacked))
    shutil.rmtree(one)
    tiny_checkpoint(one, layers=4, hidden=96)
    assert "differ in hidden_size (96 and 64)" in reason(planned(folder, LINEAR))
    shutil.rmtree(one)
    tiny_checkpoint(one, layers=4, family="mistral")
    assert "differ in architecture" in reason(planned(folder, LINEAR))
    shutil.rmtree(folder)
    sources_of_family(folder, "mixtral")
    assert "has experts" in reason(planned(folder, LINEAR))


def test_the_engine_of_another_checkpoint_takes_a_merge_of_its_shape(folder: Path, home: Path) -> None:
    small = tiny_checkpoint(folder / "small", layers=2)
    recipes = [{"name": "theirs", "checkpoint": "org/one"}, {"name": "merged", "file": "recipe.yaml"}]
    plan = planned(folder, SLERP, base=str(small), recipes=recipes)
    theirs, merged = plan.candidates[1:]
    assert merged.live_merge is not None
    assert (merged.place, merged.live_merge.opened_digest) == (theirs.place, theirs.weights_digest)
    assert "layers and" in reason(planned(folder, SLERP, base=str(small)))


def test_compiled_engines_take_built_merges(folder: Path, home: Path) -> None:
    def on_gpu(kind: EngineKind) -> InstalledEngine:
        return InstalledEngine(kind=kind, version="0.32.0", device=DeviceKind.CUDA, compute_capability=(9, 0))

    engines = [{"kind": "vllm", "execution": "compiled"}]
    assert "compiled is asked for" in reason(planned(folder, SLERP, engines=engines, installed=on_gpu))
    assert reason(planned(folder, SLERP, engines=["vllm"], installed=on_gpu)) == ""


def test_only_a_merge_is_materialized(folder: Path, home: Path) -> None:
    with pytest.raises(SweepError, match="only a merge has `materialize`"):
        planned(folder, SLERP, recipes=[{"layer_path": "(0, 2)", "materialize": True}])
