"""How the engines of a plan run: one execution mode per comparison, on the device of the nodes that will run it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.claims.facts import NOT_RECORDED, Fact, measured_facts
from evals.engine import DeviceKind, EngineKind, EngineSpec, ExecutionMode, InstalledEngine
from evals.errors import EngineError
from evals.execution import NO_CPU_KERNEL, require_runnable
from evals.scores import ChatTemplate, EvalSettings
from orchestrator.errors import SweepError
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import sweep_of_values
from orchestrator.settings import Settings
from tests.support.sparse_files import SMALL_LLAMA, sparse_checkpoint

SKIPS: list[Any] = [[0, 2, 3], [3, 2, 1, 0]]
ADDS: list[Any] = [[0, 1, 2, 1, 2, 3]]
CPU = InstalledEngine(kind=EngineKind.VLLM, version="0.32.0+cpu", device=DeviceKind.CPU)


def gpus(major: int = 9, minor: int = 0) -> InstalledEngine:
    return InstalledEngine(
        kind=EngineKind.VLLM,
        version="0.32.0",
        device=DeviceKind.CUDA,
        compute_capability=(major, minor),
    )


@pytest.fixture
def plan(tmp_path: Path, home: Path) -> Callable[..., Plan]:
    """Plans sweeps of layer paths of a tiny checkpoint for the given engines."""
    base = sparse_checkpoint(tmp_path / "base", SMALL_LLAMA)

    def planned(
        paths: list[Any], *engines: dict[str, Any], here: InstalledEngine = CPU, **sweep: Any
    ) -> Plan:
        values = {
            "name": "s",
            "base": str(base),
            "recipes": [{"layer_path": path, "name": f"path {n}"} for n, path in enumerate(paths)],
            "suites": ["smoke"],
            "engines": [{"kind": "vllm", **engine} for engine in engines or ({},)],
            **sweep,
        }
        return make_plan(
            sweep_of_values(values, origin="s.yaml"),
            Settings.from_environment(),
            installed=lambda kind: here.model_copy(update={"kind": kind}),
        )

    return planned


def evals(plan: Plan) -> list[EvalJob]:
    return [planned.job for planned in plan.evals]


@pytest.mark.parametrize("here", [CPU, gpus()], ids=["cpu", "gpu"])
@pytest.mark.parametrize("paths", [SKIPS, ADDS], ids=["skips", "adds"])
@pytest.mark.parametrize("built", [False, True], ids=["live", "built"])
def test_all_candidates_run_in_one_mode(
    plan: Callable[..., Plan], here: InstalledEngine, paths: list[Any], built: bool
) -> None:
    """The digest of a path is the same live and built, so the engines must run the same kernels."""
    made = plan(paths, here=here, materialize=built)
    specs = {job.engine for job in evals(made)}
    assert len(specs) == 1
    spec = specs.pop()
    assert spec.execution is (ExecutionMode.EAGER if here is CPU else ExecutionMode.GRAPHS)
    assert spec.device is here.device
    assert spec.version == here.version
    assert spec.batch_invariant is False
    other = plan(paths, here=here, materialize=not built)
    assert {job.digest for job in evals(made)} == {job.digest for job in evals(other)}


def test_paths_that_add_no_layer_ask_for_a_live_engine(plan: Callable[..., Plan]) -> None:
    made = plan(SKIPS, here=gpus())
    assert {job.tuning.live for job in evals(made)} == {True}
    assert {job.tuning.extra_layer_slots for job in evals(made)} == {0}
    assert {job.tuning.extra_layer_slots for job in evals(plan(ADDS, here=gpus()))} == {2}
    assert {job.tuning.live for job in evals(plan([], here=gpus()))} == {False}
    assert {job.tuning.live for job in evals(plan(SKIPS, here=gpus(), materialize=True))} == {False}


def test_layer_paths_are_built_for_a_compiled_engine_and_the_plan_says_so(plan: Callable[..., Plan]) -> None:
    made = plan(ADDS, {"execution": "compiled"}, here=gpus())
    assert [job.live_layers for job in evals(made)] == [None] * len(evals(made))
    assert len(made.builds) == 1
    assert [note for note in made.notes if "compiled" in note]
    assert {job.engine.execution for job in evals(made)} == {ExecutionMode.COMPILED}
    # The same sweep with a second engine: a path is either built or live, for all of them.
    both = plan(ADDS, {"execution": "compiled"}, {}, here=gpus())
    assert {job.live_layers for job in evals(both)} == {None}
    # Nothing is decided over the reader's head where it was asked for, or where there is no path.
    assert plan(ADDS, {"execution": "compiled"}, here=gpus(), materialize=True).notes == ()
    assert plan([], {"execution": "compiled"}, here=gpus()).notes == ()


@pytest.mark.parametrize(
    ("engine", "here", "sentence"),
    [
        ({"batch_invariant": True}, CPU, r"GPUs only.*ask for none"),
        ({"batch_invariant": True}, gpus(7, 5), r"8\.0 or more.*7\.5"),
        ({"batch_invariant": True, "execution": "compiled"}, gpus(), "use the execution mode graphs"),
        ({"batch_invariant": True, "kind": "transformers"}, CPU, "use the vllm engine"),
        ({"execution": "graphs"}, CPU, "on a CPU runs eager, not graphs"),
        ({"execution": "compiled"}, CPU, "on a CPU runs eager, not compiled"),
        ({"execution": "graphs", "kind": "transformers"}, gpus(), "no execution mode graphs"),
        ({"attention_backend": "FLASH_ATTN", "dtype": "float32"}, gpus(), "TRITON_ATTN"),
    ],
)
def test_what_cannot_run_is_refused_at_planning(
    plan: Callable[..., Plan], engine: dict[str, Any], here: InstalledEngine, sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence) as refused:
        plan([], engine, here=here)
    assert str(refused.value).count("\n") == 0


def test_a_mode_that_does_not_exist_is_a_typing_mistake(plan: Callable[..., Plan]) -> None:
    with pytest.raises(SweepError, match=r"execution: .*'eager', 'graphs' or 'compiled'$"):
        plan([], {"execution": "fast"})


@pytest.mark.parametrize(
    ("engine", "here", "backend"),
    [
        ({}, CPU, "CPU_ATTN"),
        ({}, gpus(8, 0), "FLASH_ATTN"),
        ({}, gpus(9, 0), "FLASH_ATTN"),
        ({}, gpus(10, 0), "auto"),
        ({"dtype": "float32"}, gpus(9, 0), "TRITON_ATTN"),
        ({"dtype": "float32"}, gpus(10, 0), "TRITON_ATTN"),
        ({"kv_cache_dtype": "fp8"}, gpus(9, 0), "auto"),
        ({"attention_backend": "FLASHINFER"}, gpus(9, 0), "FLASHINFER"),
        ({"kind": "transformers"}, CPU, "auto"),
    ],
)
def test_the_attention_backend_is_planned_where_it_is_known(
    plan: Callable[..., Plan], engine: dict[str, Any], here: InstalledEngine, backend: str
) -> None:
    assert {job.engine.attention_backend for job in evals(plan([], engine, here=here))} == {backend}


def facts_with(**engine: Any) -> Any:
    spec = EngineSpec(kind=EngineKind.VLLM, version="0.32.0").model_copy(update=engine)
    return measured_facts(
        "smoke", "musr", spec, EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False)
    )


RECORDED = {
    "device": DeviceKind.CUDA,
    "execution": ExecutionMode.GRAPHS,
    "attention_backend": "FLASH_ATTN",
    "batch_invariant": False,
}


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"device": DeviceKind.CPU}, Fact.DEVICE),
        ({"execution": ExecutionMode.EAGER}, Fact.EXECUTION),
        ({"attention_backend": "TRITON_ATTN"}, Fact.ATTENTION),
        ({"batch_invariant": True}, Fact.BATCH_INVARIANCE),
    ],
)
def test_another_way_of_running_is_a_difference(change: dict[str, Any], fact: Fact) -> None:
    found = facts_with(**RECORDED).differences(facts_with(**RECORDED | change))
    assert [difference.fact for difference in found] == [fact]


def test_results_of_earlier_versions_compare_among_themselves_alone() -> None:
    """They kept neither device nor mode: one reason says so, and two of them are what they were."""
    old, new = facts_with(), facts_with(**RECORDED)
    assert [d.sentence() for d in old.differences(new)] == [
        f"execution mode: {NOT_RECORDED} (base), graphs (candidate)"
    ]
    assert old.differences(facts_with()) == ()


@pytest.mark.parametrize("method", sorted(NO_CPU_KERNEL))
def test_a_method_without_a_kernel_on_cpus_is_refused_when_planning(method: str) -> None:
    """Not by an engine that does not start, three attempts later."""
    spec = EngineSpec(kind=EngineKind.VLLM, version="0.32.0+cpu", dtype="bfloat16", quantization=method)
    with pytest.raises(EngineError, match=rf"no kernel for weights quantised with {method}.*with GPUs"):
        require_runnable(spec, CPU)
    require_runnable(spec, gpus())
