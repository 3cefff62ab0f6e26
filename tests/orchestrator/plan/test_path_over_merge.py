"""A layer path over a merge: one identity whether both are live or both are built, and the same scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.samples import read_samples
from evals.scores import PROBE_SUITE, Sample
from orchestrator.errors import SweepError
from orchestrator.plan.job import BuildJob, EvalJob, Task
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import parse_sweep
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import EvalOutcome
from orchestrator.worker.worker import EngineHost, run_build
from recipes.recipe import Recipe
from tests.support.tiny_checkpoints import tiny_checkpoint

LERP = {
    "merge_method": "linear",
    "dtype": "float32",
    "models": [
        {"model": "base", "parameters": {"weight": 0.3}},
        {"model": "other", "parameters": {"weight": 0.7}},
    ],
}
STAGES = [
    LERP | {"name": "half"},
    {
        "merge_method": "slerp",
        "base_model": "half",
        "models": [{"model": "other"}],
        "parameters": {"t": 0.5},
        "dtype": "float32",
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parents")
    for seed, name in enumerate(("base", "other")):
        tiny_checkpoint(root / name, layers=4, hidden=32, seed=seed, dtype="float32")
    return root


def planned(folder: Path, recipes: list[dict[str, Any]], **changes: object) -> Plan:
    values: dict[str, Any] = {
        "name": "s",
        "base": str(folder / "base"),
        "recipes": recipes,
        "sources": {name: str(folder / name) for name in ("base", "other")},
        "suites": [{"suite": PROBE_SUITE, "benchmarks": ["reasoning-easy-scored-search"]}],
        "engines": [{"kind": "transformers", "dtype": "float32"}],
        **changes,
    }
    file = parse_sweep(json.dumps(values).encode(), origin="s.yaml", folder=folder)
    return make_plan(file, Settings.from_environment())


RECIPES: list[dict[str, Any]] = [
    {"name": "whole", "mergekit": LERP},
    {"name": "path", "mergekit": LERP, "layer_path": "(1, 3)"},
    {"name": "stages", "mergekit": STAGES, "layer_path": "(0, 2)"},
    {"name": "half", "mergekit": LERP, "layer_path": "(1, 2):attention"},
    {"name": "none", "mergekit": LERP, "layer_path": "(0, 0)"},
]


def test_it_has_one_identity_live_or_built(folder: Path) -> None:
    live, built = planned(folder, RECIPES), planned(folder, RECIPES, materialize=True)
    assert [c.layer_path for c in live.candidates] == [c.layer_path for c in built.candidates]
    assert live.candidates[2].layer_path == (0, 1, 2, 1, 2, 3)
    assert live.candidates[2].layers == 6
    assert not live.builds
    assert {p.candidate: p.job.digest for p in live.evals} == {p.candidate: p.job.digest for p in built.evals}
    jobs = {p.candidate: p.job for p in live.evals}
    assert jobs["path"].weights_digest == jobs["whole"].weights_digest == jobs["half"].weights_digest
    assert jobs["path"].digest != jobs["whole"].digest == jobs["none"].digest
    assert jobs["path"].live_layers == (0, 1, 2, 1, 2, 3)
    assert jobs["path"].live_merge == jobs["whole"].live_merge
    assert jobs["path"].engine_key == jobs["base"].engine_key
    assert jobs["base"].tuning.extra_layer_slots == jobs["path"].tuning.extra_layer_slots == 2
    recipe = Recipe.parse(live.candidates[3].recipe or "")
    assert [stage.method for stage in recipe.ordered] == ["linear", "slerp", "passthrough"]
    assert recipe.n_layers({str(source): 4 for source in recipe.sources}) == 6


def test_with_a_merge_that_is_built_the_path_is_built_too(folder: Path) -> None:
    plan = planned(folder, [RECIPES[1] | {"materialize": True}, {"layer_path": "(0, 4)"}])
    by_name = {p.candidate: p.job for p in plan.evals}
    (build,) = plan.builds
    assert by_name["path"].place.artifact == build.digest
    assert by_name["path"].live_layers is None
    assert by_name["path"].tuning.extra_layer_slots == 0
    assert by_name["(0, 4)"].live_layers == (0, 1, 2, 3, 0, 1, 2, 3)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"mergekit": LERP, "layer_path": "(3, 9)"}, "(3, 9)"),
        ({"checkpoint": "other", "layer_path": "(1, 2)"}, "give exactly one of"),
        (
            {
                "mergekit": {
                    "merge_method": "passthrough",
                    "slices": [{"sources": [{"model": "base", "layer_range": [0, 3]}]}],
                },
                "layer_path": "(1, 2)",
            },
            "no merge with a known number of layers",
        ),
    ],
)
def test_a_path_that_fits_no_merge_is_refused_in_one_sentence(
    folder: Path, entry: dict[str, Any], words: str
) -> None:
    with pytest.raises(SweepError) as caught:
        planned(folder, [{"name": "bad", **entry}])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_live_it_scores_as_built(folder: Path, home: Path) -> None:
    """Every answer's log-probabilities, on the transformers engine, within the rounding of float32."""
    live, built = planned(folder, RECIPES), planned(folder, RECIPES, materialize=True)
    ours, theirs = measured(live, home / "live"), measured(built, home / "built")
    assert len(set(map(str, ours.values()))) == len(ours) == 5
    for digest, samples in ours.items():
        assert [s.logprobs for s in samples] == [pytest.approx(s.logprobs, abs=1e-5) for s in theirs[digest]]


def measured(plan: Plan, home: Path) -> dict[str, list[Sample]]:
    context = WorkerContext(home=str(home), datasets=None)
    host = EngineHost(context)
    results: dict[str, list[Sample]] = {}
    for digest, job in plan.jobs.items():
        if isinstance(job, BuildJob):
            run_build(context, f"b-{digest}", job)
            continue
        assert isinstance(job, EvalJob)
        # With one thread the order of additions does not depend on what else the machine does.
        alone = job.model_copy(update={"tuning": job.tuning.model_copy(update={"threads": 1})})
        (outcome,) = host.run([Task(attempt_id=f"a-{digest}", job=alone)])
        assert isinstance(outcome, EvalOutcome), outcome
        results[digest] = list(read_samples(home / outcome.samples_path))
    host.close()
    return results
