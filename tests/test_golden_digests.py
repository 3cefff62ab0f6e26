"""Identities stay what they are: digests of recipes, suites, tasks, probes, engines, jobs and plans, byte for byte.

    python -m tests.test_golden_digests         writes tests/golden_digests.json anew

A digest may change only where a change of identity is meant; then the file is written anew and the commit says which and why.
Digests of lm-eval's own task files belong to the version in the lock files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evals.datasets import check, content_digest
from evals.engine import DeviceKind, EngineKind, EngineSpec, ExecutionMode, digest_of
from evals.probes import Split, get_probe, probe_keys
from evals.scores import ChatTemplate, EvalSettings, Seeds
from evals.suite import Benchmark, load_suite, suite_names
from evals.task_files import task_digest
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob, RecipeSource
from orchestrator.plan.sweep import parse_sweep
from recipes.catalog import catalog_names, load_catalog
from recipes.recipe import Recipe
from tests.support.stand_in_plan import stand_in_plan

FILE = Path(__file__).with_name("golden_digests.json")
BASE = "meta-llama/Meta-Llama-3.1-70B-Instruct@1605565b47bb9346c5515c34102e054115b4f98b"
ENGINES = {
    "vllm": EngineSpec(kind=EngineKind.VLLM, version="0.32.0"),
    "vllm fp8": EngineSpec(kind=EngineKind.VLLM, version="0.32.0", quantization="fp8", tensor_parallel=8),
    "vllm graphs": EngineSpec(
        kind=EngineKind.VLLM,
        version="0.32.0",
        device=DeviceKind.CUDA,
        execution=ExecutionMode.GRAPHS,
        attention_backend="FLASH_ATTN",
        batch_invariant=True,
        max_length=4096,
    ),
    "transformers": EngineSpec(
        kind=EngineKind.TRANSFORMERS,
        version="5.19.0",
        dtype="float32",
        device=DeviceKind.CPU,
        execution=ExecutionMode.EAGER,
        attention_backend="sdpa",
        batch_invariant=False,
    ),
}
SETTINGS = {
    "as it is": EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False),
    "template": EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=True, limit=20),
    "seeds": EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False, seeds=Seeds(fewshot=7)),
}
SWEEP = """
name: golden
base: meta-llama/Meta-Llama-3.1-70B-Instruct@1605565b47bb9346c5515c34102e054115b4f98b
recipes:
  - grid: "i=0:8:2 j=0:8:2"
  - {name: twice, layer_path: "(0, 30)"}
  - {name: merged, mergekit: {merge_method: linear, models: [{model: a/b, parameters: {weight: 1}}], dtype: bfloat16}}
suites: [smoke, {suite: leaderboard-v2, benchmarks: [bbh], limit: 5}]
engines: [vllm, {kind: transformers, dtype: float32}]
"""


def identities() -> dict[str, Any]:
    """Every kind of identity, over fixed inputs."""
    suites = {}
    for name in suite_names():
        suite = load_suite(name)
        suites[name] = {b.name: [b.digest, task_digest(b)] for b in suite.benchmarks}
    smoke = load_suite("smoke")
    data = {b.name: _content(b) for b in smoke.benchmarks}
    probes = {f"{key}-{split}": get_probe(f"{key}-{split}").digest for key in probe_keys() for split in Split}
    recipes = {name: _recipe(load_catalog(name).recipe) for name in catalog_names()}
    plan = stand_in_plan(40, (1, 2))
    return {
        "suites": suites,
        "data": data,
        "probes": probes,
        "recipes": recipes,
        "engines": {name: spec.digest for name, spec in ENGINES.items()},
        "jobs": {
            f"{engine} {settings} {path}": _job(ENGINES[engine], SETTINGS[settings], path).digest
            for engine in ENGINES
            for settings in SETTINGS
            for path in (None, (0, 1, 1, 2))
        },
        "build": _build().digest,
        "plan": [plan.digest, *list(plan.jobs)[:5]],
        "sweep": digest_of(parse_sweep(SWEEP.encode(), origin="golden.yaml", folder=FILE.parent).sweep),
    }


def _content(benchmark: Benchmark) -> str:
    location = check(benchmark, None).location
    assert location is not None, "the smoke suite's data is part of the package"
    return content_digest(location, benchmark)


def _recipe(recipe: Recipe) -> str:
    return recipe.digest(
        {str(source): f"{number:016x}" for number, source in enumerate(recipe.sources)}, seed=3
    )


def _job(engine: EngineSpec, settings: EvalSettings, path: tuple[int, ...] | None) -> EvalJob:
    return EvalJob(
        weights_digest=BASE,
        layer_path=path,
        suite="smoke",
        benchmark="bbh",
        benchmark_digest="b" * 16,
        dataset_digest="d" * 16,
        engine=engine,
        settings=settings,
        scorer="lm-eval 0.4.12",
        place=CheckpointPlace(name=BASE),
        live_layers=path,
    )


def _build() -> BuildJob:
    source = RecipeSource(name="base", place=BASE, weights_digest=BASE)
    return BuildJob(recipe="x", recipe_digest="r" * 16, sources=(source,), seed=3)


def test_every_identity_is_what_it_was() -> None:
    expected = json.loads(FILE.read_text(encoding="utf-8"))
    actual = json.loads(json.dumps(identities()))
    for kind, digests in expected.items():
        assert actual[kind] == digests, f"identities of {kind} changed"
    assert actual.keys() == expected.keys()


if __name__ == "__main__":
    FILE.write_text(json.dumps(identities(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
