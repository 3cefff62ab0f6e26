"""Quantised checkpoints: their size decides how many GPUs share them, and their name is the engine's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from evals.engine import DeviceKind, EngineKind, EngineSpec, EngineTuning, InstalledEngine
from evals.errors import EngineError
from evals.quantization import (
    DEPRECATED_METHODS,
    VLLM_METHODS,
    engine_quantization,
    stored_method,
    stored_quantization,
)
from evals.vllm import loading
from orchestrator.errors import PlanError
from orchestrator.plan.candidates import BASE_NAME
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import sweep_of_values
from orchestrator.settings import Settings
from recipes.config_facts import ConfigFacts
from recipes.sources import PinnedSource, SourceFacts, facts_from_config, parse, read_facts
from tests.support.sparse_files import SMALL_LLAMA, linear_shapes, sparse_checkpoint

GIB = 2**30
LLAMA_405B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
FBGEMM = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128}}},
}
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
MODELOPT = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
ALL = {
    "fp8": (FP8, "fp8", 8),
    "fbgemm": (FBGEMM, "fbgemm_fp8", 8),
    "gptq": (GPTQ, "gptq", 4),
    "gptq 8 bit": ({**GPTQ, "bits": 8}, "gptq", 8),
    "awq": (AWQ, "awq", 4),
    "AWQ": ({**AWQ, "quant_method": "AWQ"}, "awq", 4),
    "compressed": (COMPRESSED, "compressed-tensors", 4),
    "compressed_tensors": ({**COMPRESSED, "quant_method": "compressed_tensors"}, "compressed-tensors", 4),
    "mxfp4": (MXFP4, "mxfp4", 4),
    "modelopt": (MODELOPT, "modelopt", 8),
    "auto-round": ({"quant_method": "auto-round", "bits": 4}, "inc", 4),
}


def config(quantization: dict[str, Any]) -> ConfigFacts:
    return ConfigFacts.from_config({**LLAMA_405B, "quantization_config": quantization}, "config.json")


def sparse_405b(folder: Path, quantization: dict[str, Any]) -> Path:
    """A Llama of 405 B parameters, quantised."""
    linears: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (rows, columns) in linear_shapes(LLAMA_405B).items():
        if quantization["quant_method"] in ("gptq", "awq"):
            groups = columns // quantization["group_size"]
            linears[f"{name}.qweight"] = ("I32", (columns * quantization["bits"] // 32, rows))
            linears[f"{name}.qzeros"] = ("I32", (groups, rows * quantization["bits"] // 32))
            linears[f"{name}.scales"] = ("F16", (groups, rows))
        else:
            linears[f"{name}.weight"] = ("F8_E4M3", (rows, columns))
            linears[f"{name}.weight_scale"] = ("F32", (1,))
    return sparse_checkpoint(folder, {**LLAMA_405B, "quantization_config": quantization}, linears)


def h100s(number: int) -> ClusterFacts:
    node = NodeFacts(
        node_id="a",
        host="a",
        cpus=64,
        gpus=number,
        memory_bytes=1000 * GIB,
        gpu_type="H100",
        gpu_memory_bytes=80 * GIB,
    )
    return ClusterFacts(nodes=(node,))


def gpu_engine(kind: EngineKind) -> InstalledEngine:
    return InstalledEngine(kind=kind, version="0.32.0", device=DeviceKind.CUDA, compute_capability=(9, 0))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """Plans a sweep over a checkpoint of which only these facts are known."""

    def plan(facts: SourceFacts, *, gpus: int = 8, paths: tuple[str, ...] = (), **engine: Any) -> Plan:
        source = PinnedSource(reference="org/big@" + "0" * 40, weights_digest="w")
        monkeypatch.setattr("orchestrator.plan.plan.pin", lambda *_, **__: source)
        monkeypatch.setattr("orchestrator.plan.plan.describe", lambda *_, **__: facts)
        values = {
            "name": "big",
            "base": "org/big",
            "recipes": list(paths),
            "suites": ["smoke"],
            "engines": [{"kind": "vllm", **engine}],
        }
        return make_plan(
            sweep_of_values(values, origin="s.yaml"),
            Settings.from_environment(),
            cluster=h100s(gpus),
            installed=gpu_engine,
        )

    return plan


@pytest.mark.parametrize("name", list(ALL))
def test_the_name_is_the_engines(tmp_path: Path, name: str) -> None:
    """One name, whoever reads it: planning reads recipes' facts, the engine reads the directory."""
    quantization, expected, bits = ALL[name]
    facts = config(quantization)
    assert facts.quantized is not None
    assert facts.quantized.bits == bits
    assert engine_quantization(facts.quantized.method) == expected
    whole = {**LLAMA_405B, "quantization_config": quantization}
    assert stored_quantization(tmp_path, whole) == expected
    assert stored_method(tmp_path, whole) == facts.quantized.method


def test_what_modelopt_writes_beside_the_config_counts(tmp_path: Path) -> None:
    checkpoint = sparse_checkpoint(tmp_path / "m", SMALL_LLAMA)
    (checkpoint / "hf_quant_config.json").write_text(json.dumps(MODELOPT))
    facts = read_facts(parse(str(checkpoint), None), home=tmp_path)
    assert facts.config.quantized is not None
    assert facts.config.quantized.method == "modelopt"
    read = json.loads((checkpoint / "config.json").read_text())
    assert stored_quantization(checkpoint, read) == "modelopt"


@pytest.mark.parametrize("method", ["bitsandbytes", "hqq", "gguf", "unnamed"])
def test_what_vllm_cannot_load_is_refused_at_planning(planned: Any, method: str) -> None:
    with pytest.raises(EngineError, match=rf"quantised with {method} cannot be loaded by vLLM"):
        planned(facts_from_config(config({"quant_method": method, "bits": 4})))


def test_the_transformers_engine_refuses_at_planning(planned: Any) -> None:
    with pytest.raises(EngineError, match=r"does not run quantised weights \(gptq\)"):
        planned(facts_from_config(config(GPTQ)), kind="transformers")


@pytest.mark.parametrize(
    ("quantization", "gigabytes", "gpus"),
    [(FP8, 410.05, 8), (GPTQ, 217.07, 4), (AWQ, 217.07, 4)],
    ids=["fp8", "gptq", "awq"],
)
def test_gpus_follow_from_the_bytes_of_the_files(
    tmp_path: Path, planned: Any, quantization: dict[str, Any], gigabytes: float, gpus: int
) -> None:
    """405 B parameters: a plan that knows no size would put all of them onto one GPU."""
    facts = read_facts(parse(str(sparse_405b(tmp_path / "m", quantization)), None), home=tmp_path)
    plan = planned(facts, paths=("(3, 5)",))
    assert plan.needs
    base = next(p.job for p in plan.evals if p.candidate == BASE_NAME)
    assert plan.needs[base.engine_key].weight_bytes == facts.size_bytes
    assert (facts.size_bytes or 0) / 1e9 == pytest.approx(gigabytes, abs=0.01)
    assert plan.tensor_parallel == gpus
    assert {p.job.engine.tensor_parallel for p in plan.evals} == {gpus}
    assert {p.job.engine.quantization for p in plan.evals} == {quantization["quant_method"]}
    # Parameters are counted as they compute, not as they are packed.
    assert facts.parameters == pytest.approx(405.85e9, rel=1e-3)


@pytest.mark.parametrize("name", list(ALL))
def test_a_config_alone_gives_the_size_within_some_percent(tmp_path: Path, name: str) -> None:
    quantization, _, bits = ALL[name]
    size = facts_from_config(config(quantization)).size_bytes
    assert size == pytest.approx(401.65e9 * bits / 8 + 8.4e9, rel=0.07)
    if quantization in (FP8, GPTQ, AWQ):
        exact = read_facts(
            parse(str(sparse_405b(tmp_path / "m", quantization)), None), home=tmp_path
        ).size_bytes
        assert size == pytest.approx(exact, rel=0.02)


def test_what_fits_nowhere_is_refused_with_its_size(planned: Any) -> None:
    with pytest.raises(PlanError, match="can never run here"):
        planned(facts_from_config(config(FP8)), gpus=4)


def test_a_size_that_nothing_tells_is_said(planned: Any) -> None:
    """A mixture of experts without headers: neither its config nor a file tells how large it is."""
    moe = {**LLAMA_405B, "model_type": "mixtral", "num_local_experts": 8, "quantization_config": FP8}
    facts = facts_from_config(ConfigFacts.from_config(moe, "config.json"))
    assert facts.size_bytes is None
    assert [note for note in planned(facts).notes if "size of base is not known" in note]
    assert planned(facts, tensor_parallel=8).notes == ()
    assert planned(facts_from_config(config(GPTQ))).notes == ()


def test_a_built_path_has_the_bytes_of_its_layers(tmp_path: Path) -> None:
    facts = read_facts(parse(str(sparse_405b(tmp_path / "m", GPTQ)), None), home=tmp_path)
    assert facts.size_bytes is not None
    assert facts.layer_bytes is not None
    assert facts.bytes_of(128) == facts.size_bytes + 2 * facts.layer_bytes
    assert 126 * facts.layer_bytes == pytest.approx(facts.size_bytes - 8.4e9, rel=1e-3)


def test_vllm_reads_how_a_checkpoint_is_stored_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told `gptq` it would look for that kernel; told nothing it picks the best one for the device."""
    monkeypatch.setattr(loading, "answer_for_cpu_build", lambda: False)
    checkpoint = sparse_checkpoint(tmp_path / "m", {**SMALL_LLAMA, "quantization_config": GPTQ})
    spec = EngineSpec(kind=EngineKind.VLLM, version="0.32.0", quantization="gptq")
    assert loading.plan_engine(spec, checkpoint, EngineTuning()).arguments["quantization"] is None
    for other in (None, "gptq-4bit", "awq"):
        asked = spec.model_copy(update={"quantization": other})
        with pytest.raises(EngineError, match="set quantization to gptq"):
            loading.plan_engine(asked, checkpoint, EngineTuning())


@pytest.mark.vllm
def test_the_names_are_vllms() -> None:
    from vllm.model_executor.layers import quantization

    known = set(get_args(quantization.QuantizationMethods))
    assert known >= VLLM_METHODS
    assert set(quantization.DEPRECATED_QUANTIZATION_METHODS) >= DEPRECATED_METHODS
    assert not DEPRECATED_METHODS - VLLM_METHODS
