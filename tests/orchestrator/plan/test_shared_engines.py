"""Which built layer paths share an engine, and what a plan says about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.engine import DeviceKind
from orchestrator.cli.plan_view import show_plan
from orchestrator.plan.plan import Plan
from orchestrator.settings import Settings
from recipes.built_form import BuiltForms
from recipes.layer_path import LayerPath
from tests.orchestrator.plan.test_live import NEMOTRON, planned

PATHS = [(0, 1, 1, 2, 3), (0, 1, 2, 2, 3), (0, 0, 1, 2, 3), (0, 1, 2, 3, 2, 3)]


def recipes(*paths: tuple[int | str, ...]) -> list[dict[str, Any]]:
    return [{"layer_path": list(path), "name": str(path)} for path in paths]


def engines_by_path(plan: Plan) -> dict[str, str]:
    return {p.candidate: p.job.engine_key for p in plan.evals if p.candidate != "base"}


@pytest.fixture(params=["transformers"])
def built(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"kind": request.param, "recipes": recipes(*PATHS)}


def test_paths_of_one_depth_share_the_engine_of_the_first(
    tmp_path: Path, home: Path, built: dict[str, Any]
) -> None:
    plan = planned(tmp_path, NEMOTRON, **built)
    engines = engines_by_path(plan)
    first, second, third, longer = (engines[str(path)] for path in PATHS)
    assert first == second == third != longer
    assert (len(plan.builds), plan.engine_starts) == (2, 3)
    by_name = {candidate.name: candidate for candidate in plan.candidates}
    live = by_name[str(PATHS[1])].live_merge
    assert live is not None
    assert live.opened_with == plan.builds[0].digest
    assert "The 4 built layer paths take 2 engine starts" in plan.notes[1]


def test_files_are_written_where_the_sweep_asks_for_them(
    tmp_path: Path, home: Path, built: dict[str, Any]
) -> None:
    """Each evaluation waits for its own build and for that of the engine's checkpoint; nothing changes its identity."""
    streamed = planned(tmp_path, NEMOTRON, **built)
    plan = planned(tmp_path, NEMOTRON, materialize=True, **built)
    assert (len(plan.builds), plan.engine_starts) == (4, 3)
    second = next(p.job for p in plan.evals if p.candidate == str(PATHS[1]))
    assert second.needs == (plan.builds[0].digest, plan.builds[1].digest)
    assert [p.job.digest for p in plan.evals] == [p.job.digest for p in streamed.evals]
    alone = planned(tmp_path, NEMOTRON, materialize=True, kind=built["kind"], recipes=recipes(PATHS[1]))
    same = next(p.job for p in alone.evals if p.job.digest == second.digest)
    assert same.live_merge is None


@pytest.mark.parametrize(
    ("checkpoint", "sweep", "reason"),
    [
        (NEMOTRON, {"kind": "vllm"}, "no test replaces the weights of NemotronForCausalLM"),
        ({}, {"device": DeviceKind.CUDA, "engines": [{"kind": "vllm", "execution": "compiled"}]}, "of a compiled engine"),
        ({"family": "mixtral"}, {"device": DeviceKind.CUDA}, "MixtralForCausalLM in a running vLLM engine on GPUs"),
    ],
    ids=["family", "compiled", "gpu"],
)  # fmt: skip
def test_paths_have_an_engine_each_where_weights_are_not_replaced(
    tmp_path: Path, home: Path, checkpoint: dict[str, Any], sweep: dict[str, Any], reason: str
) -> None:
    plan = planned(tmp_path, checkpoint, recipes=recipes(*PATHS), **sweep)
    assert len(set(engines_by_path(plan).values())) == 4
    assert any(f"4 built layer paths have an engine each: {reason}" in note for note in plan.notes) or any(
        reason in note for note in plan.notes
    )


def test_halves_do_not_share_with_whole_layers(tmp_path: Path, home: Path) -> None:
    """mergekit writes them, and whole layers are copied."""
    halves = [(0, 1, "1:mlp", 2, 3), (0, 1, 2, "2:attention", 3)]
    plan = planned(
        tmp_path, NEMOTRON | {"config": {}}, kind="transformers", materialize=True,
        recipes=recipes(PATHS[0], *halves),
    )  # fmt: skip
    engines = engines_by_path(plan)
    assert engines[str(halves[0])] == engines[str(halves[1])] != engines[str(PATHS[0])]


def test_a_config_that_follows_the_path_must_be_equal() -> None:
    """Layer types by position, and the names of tensors by position."""
    config = {
        "model_type": "gemma2",
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    }
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)]
    forms = BuiltForms(config, names, "c")

    def form(*layers: int) -> str:
        return forms.of(LayerPath.parse(list(layers), 4))

    assert form(0, 1, 2, 2, 3) == form(0, 1, 0, 0, 3) == form(2, 3, 2, 0, 1)
    assert form(0, 1, 2, 2, 3) != form(0, 1, 1, 2, 3)
    assert form(0, 1, 2, 3) != form(0, 1, 2, 2, 3)
    other = BuiltForms(
        {"model_type": "llama", "num_hidden_layers": 2}, ["model.layers.0.a.b", "model.layers.1.a.c"], "c"
    )
    assert other.of(LayerPath.parse([0, 0, 1], 2)) != other.of(LayerPath.parse([0, 1, 1], 2))


def test_the_plan_prints_engine_starts(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], tiny_llama: Path
) -> None:
    sweep = {
        "name": "s",
        "base": str(tiny_llama),
        "recipes": [{"grid": "all"}],
        "suites": ["smoke"],
        "materialize": True,
        "engines": [{"kind": "transformers"}],
    }
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))
    show_plan(tmp_path / "s.yaml", Settings.from_environment(), sources=[], as_json=False)
    printed = capsys.readouterr().out
    assert "shared engine" in printed
    assert "on 5 engine starts." in printed
    show_plan(tmp_path / "s.yaml", Settings.from_environment(), sources=[], as_json=True)
    assert json.loads(capsys.readouterr().out)["engine_starts"] == 5
