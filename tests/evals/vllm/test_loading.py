"""From a specification to vLLM's arguments: execution modes, live engines, and what is checked after the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.engine import EngineKind, EngineSpec, EngineTuning, ExecutionMode
from evals.engines import installed_version, open_engine
from evals.errors import EngineError
from evals.vllm import loading
from evals.vllm.environment import environment, process_settings
from evals.vllm.loading import StartSettings, plan_engine, running_spec
from evals.vllm.reporting import RunningEngine
from tests.support.engine_requests import LAYERS
from tests.support.tiny_checkpoints import tiny_checkpoint

LIVE = "evals.vllm.worker.LiveWorker"
BUILT = "evals.vllm.reporting.BuiltWorker"


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan as the GPU build of vLLM does."""
    monkeypatch.setattr(loading, "answer_for_cpu_build", lambda: False)


def spec(**changes: object) -> EngineSpec:
    return EngineSpec.model_validate({"kind": "vllm", "version": "0.32.0", **changes})


def test_a_live_engine_without_added_layers_is_live_on_a_gpu(on_gpu: None, tiny_llama: Path) -> None:
    """Skip-only and reordered paths add no slot, and still need an engine in which a path can be set."""
    plan = plan_engine(spec(), tiny_llama, EngineTuning(live=True))
    assert plan.live
    assert plan.arguments["worker_cls"] == LIVE
    assert plan.arguments["additional_config"] == {"extra_layer_slots": 0}
    assert plan_engine(spec(), tiny_llama, EngineTuning(extra_layer_slots=2)).live
    built = plan_engine(spec(), tiny_llama, EngineTuning())
    assert not built.live
    assert built.arguments["worker_cls"] == BUILT


def test_live_and_built_engines_run_one_mode_on_a_gpu(on_gpu: None, tiny_llama: Path) -> None:
    live, built = (plan_engine(spec(), tiny_llama, EngineTuning(live=yes)).arguments for yes in (True, False))
    for arguments in (live, built):
        assert arguments["enforce_eager"] is False
        assert arguments["compilation_config"] == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    different = {name for name in live | built if live.get(name) != built.get(name)}
    assert different == {"worker_cls", "additional_config"}


def test_modes_are_arguments_of_vllm(on_gpu: None, tiny_llama: Path) -> None:
    eager = plan_engine(spec(execution="eager"), tiny_llama, EngineTuning()).arguments
    assert eager["enforce_eager"] is True
    assert "compilation_config" not in eager
    compiled = plan_engine(spec(execution="compiled"), tiny_llama, EngineTuning()).arguments
    assert compiled["enforce_eager"] is False
    assert "compilation_config" not in compiled


def test_vllm_reads_the_arguments_as_they_are_meant() -> None:
    from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

    config = CompilationConfig(**loading.GRAPHS)
    assert config.mode == CompilationMode.NONE
    assert config.cudagraph_mode == CUDAGraphMode.FULL_DECODE_ONLY
    assert not config.cudagraph_mode.requires_piecewise_compilation()


def test_live_paths_and_a_compiled_engine_are_refused(on_gpu: None, tiny_llama: Path) -> None:
    with pytest.raises(EngineError, match=r"compiled engine.*materialize"):
        plan_engine(spec(execution="compiled"), tiny_llama, EngineTuning(live=True))


def test_a_named_attention_backend_is_asked_of_vllm(on_gpu: None, tiny_llama: Path) -> None:
    named = plan_engine(spec(attention_backend="TRITON_ATTN"), tiny_llama, EngineTuning())
    assert named.arguments["attention_backend"] == "TRITON_ATTN"
    for left_open in (None, "auto"):
        plan = plan_engine(spec(attention_backend=left_open), tiny_llama, EngineTuning())
        assert "attention_backend" not in plan.arguments


def test_the_environment_of_the_process_decides_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's exported switch would change kernels under an identity that does not say so."""
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    monkeypatch.setenv("VLLM_USE_BREAKABLE_CUDAGRAPH", "1")
    import os

    with environment(process_settings(False, 1, 1, ExecutionMode.GRAPHS, batch_invariant=False)):
        assert os.environ["VLLM_BATCH_INVARIANT"] == "0"
        assert os.environ["VLLM_USE_BREAKABLE_CUDAGRAPH"] == "0"
    settings = process_settings(False, 1, 1, ExecutionMode.GRAPHS, batch_invariant=True)
    assert settings["VLLM_BATCH_INVARIANT"] == "1"
    on_cpu = process_settings(True, 1, 1, ExecutionMode.EAGER, batch_invariant=False)
    assert (
        on_cpu["VLLM_CPU_INT4_W4A8"] == "0"
    )  # 4-bit weights with 8-bit activations, on machines with AMX alone


def worker(**changes: Any) -> RunningEngine:
    values = {
        "execution": ExecutionMode.GRAPHS,
        "attention": "FLASH_ATTN",
        "captured": True,
        "detail": "compilation mode NONE, CUDA graphs FULL_DECODE_ONLY",
    }
    return RunningEngine(**{**values, **changes})


def test_what_runs_is_held_against_what_was_asked(on_gpu: None, tiny_llama: Path) -> None:
    asked = spec(attention_backend="auto")
    plan = plan_engine(asked, tiny_llama, EngineTuning())
    assert running_spec(asked, plan, [worker(), worker()]).attention_backend == "FLASH_ATTN"
    eager = worker(execution=ExecutionMode.EAGER, captured=False, detail="CUDA graphs NONE")
    with pytest.raises(EngineError, match=r"was to run graphs.*CUDA graphs NONE.*FLASH_ATTN"):
        running_spec(asked, plan, [eager])
    with pytest.raises(EngineError, match="captured none"):
        running_spec(asked, plan, [worker(captured=False)])
    with pytest.raises(EngineError, match=r"asks for the attention backend TRITON_ATTN.*runs FLASH_ATTN"):
        running_spec(spec(attention_backend="TRITON_ATTN"), plan, [worker()])
    with pytest.raises(EngineError, match="GPUs of one kind"):
        running_spec(asked, plan, [worker(), worker(attention="TRITON_ATTN")])


def test_a_live_engine_may_capture_its_graphs_later(on_gpu: None, tiny_llama: Path) -> None:
    plan = plan_engine(spec(), tiny_llama, EngineTuning(live=True))
    assert running_spec(spec(), plan, [worker(captured=False)]).attention_backend == "FLASH_ATTN"


@pytest.mark.vllm
@pytest.mark.parametrize("tuning", [EngineTuning(live=True, threads=1, kv_cache_gib=0.125)])
def test_an_engine_says_what_it_runs(tmp_path: Path, tuning: EngineTuning) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS)
    asked = EngineSpec(
        kind=EngineKind.VLLM, version=installed_version(EngineKind.VLLM), dtype="float32", max_length=256
    )
    with pytest.raises(EngineError, match=r"asks for the attention backend FLASH_ATTN_2.*runs CPU_ATTN"):
        _open_with_another_backend(asked, checkpoint, tuning)
    engine = open_engine(asked, checkpoint, tuning)
    try:
        assert engine.spec.device == "cpu"
        assert engine.spec.execution is ExecutionMode.EAGER
        assert engine.spec.attention_backend == "CPU_ATTN"
        assert engine.spec.batch_invariant is False
        engine.set_layer_path((0, 2, 3, 5))
    finally:
        engine.close()


def _open_with_another_backend(asked: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> None:
    """vLLM is not told, so that the check after the start is what sees it."""
    original = loading.plan_engine

    def silent(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> StartSettings:
        return original(spec.model_copy(update={"attention_backend": None}), checkpoint, tuning)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evals.vllm.engine.plan_engine", silent)
        open_engine(asked.model_copy(update={"attention_backend": "FLASH_ATTN_2"}), checkpoint, tuning)
