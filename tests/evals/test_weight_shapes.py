"""A checkpoint whose tensors contradict its config.json is refused by name before vLLM opens it; a whole one is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evals.engine import EngineKind, EngineSpec, EngineTuning
from evals.errors import EngineError
from evals.transformers.weight_shapes import require_weight_shapes
from evals.vllm.loading import plan_engine
from evals.weight_names import require_all_weights
from tests.support.tiny_checkpoints import ARCHITECTURES, tiny_checkpoint, tiny_of_type

NAMES_WRONG = r"tensor model\.layers\.0\.\S* has the shape \[[\d, ]+\] and by config.json it is \[[\d, ]+\]"


def checked(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))
    require_all_weights(checkpoint, config)
    require_weight_shapes(checkpoint, config)


def as_pickle(checkpoint: Path, *, shards: int = 1) -> Path:
    tensors = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    if shards == 1:
        torch.save(tensors, checkpoint / "pytorch_model.bin")
        return checkpoint
    files = [f"pytorch_model-{n:05d}-of-{shards:05d}.bin" for n in range(1, shards + 1)]
    places = {name: files[i % shards] for i, name in enumerate(tensors)}
    for file in files:
        torch.save({n: t for n, t in tensors.items() if places[n] == file}, checkpoint / file)
    (checkpoint / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    return checkpoint


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_smaller_size_in_the_configuration_is_refused(family: str, tied: bool, tmp_path: Path) -> None:
    whole = tiny_checkpoint(tmp_path, family=family, tied=tied, shards=2)
    checked(whole)
    with pytest.raises(EngineError, match=NAMES_WRONG):
        checked(whole, intermediate_size=64)
    with pytest.raises(EngineError, match="has the shape"):
        checked(whole, intermediate_size=128, vocab_size=320)


def test_vllm_refuses_before_it_starts(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, config={"intermediate_size": 128})
    spec = EngineSpec(kind=EngineKind.VLLM, version="0", dtype="float32")
    plan_engine(spec, checkpoint, EngineTuning())
    checked(checkpoint, num_key_value_heads=1)
    (checkpoint / "config.json").write_text(
        (checkpoint / "config.json")
        .read_text()
        .replace('"intermediate_size": 128', '"intermediate_size": 64')
    )
    with pytest.raises(EngineError, match=NAMES_WRONG):
        plan_engine(spec, checkpoint, EngineTuning())


@pytest.mark.parametrize("shards", [1, 3])
def test_pickles_are_read_for_names_and_shapes(shards: int, tmp_path: Path) -> None:
    checkpoint = as_pickle(tiny_checkpoint(tmp_path), shards=shards)
    checked(checkpoint)
    with pytest.raises(EngineError, match=NAMES_WRONG):
        checked(checkpoint, intermediate_size=64)
    with pytest.raises(EngineError, match="lacks weights of its model"):
        checked(checkpoint, intermediate_size=128, num_hidden_layers=5)


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    (checkpoint / "model.safetensors").unlink()
    torch.save([1, 2], checkpoint / "pytorch_model.bin")
    with pytest.raises(EngineError, match="holds no named tensors"):
        checked(checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(b"cbuiltins\neval\n")
    with pytest.raises(EngineError, match="cannot be read"):
        checked(checkpoint)


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("gpt_neox", {}),
        ("olmo2", {}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [0]}),
        ("qwen3_next", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
        ("jamba", {"attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2, "num_experts": 2}),
        ("lfm2", {}),
    ],
)  # fmt: skip
def test_other_architectures_are_not_refused_wrongly(
    model_type: str, config: dict[str, Any], tmp_path: Path
) -> None:
    checked(tiny_of_type(tmp_path, model_type, **config))


@pytest.mark.parametrize("method", ["fp8", "gptq", "compressed-tensors", "bitsandbytes"])
def test_quantised_tensors_have_shapes_of_their_own(method: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    tensors = load_file(checkpoint / "model.safetensors")
    for name, tensor in list(tensors.items()):
        if "proj" in name:
            module = name.removesuffix(".weight")
            del tensors[name]
            if method == "fp8":
                tensors |= {name: tensor.to(torch.float8_e4m3fn), f"{name}_scale": torch.ones(1)}
            elif method == "gptq":
                packed = torch.zeros(tensor.shape[1] // 8, tensor.shape[0], dtype=torch.int32)
                tensors |= {f"{module}.qweight": packed, f"{module}.scales": torch.ones(1, tensor.shape[0])}
            elif method == "compressed-tensors":
                packed = torch.zeros(tensor.shape[0], tensor.shape[1] // 8, dtype=torch.int32)
                tensors |= {f"{module}.weight_packed": packed, f"{module}.weight_scale": torch.ones(1)}
            else:
                tensors |= {
                    name: torch.zeros(tensor.numel() // 2, 1, dtype=torch.uint8),
                    f"{name}.absmax": torch.ones(1),
                }
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    checked(checkpoint, quantization_config={"quant_method": method})
    with pytest.raises(EngineError, match="has the shape"):
        checked(checkpoint, vocab_size=320)


def test_an_unknown_architecture_is_left_to_the_engine(tmp_path: Path) -> None:
    checked(tiny_checkpoint(tmp_path), model_type="of-its-own", architectures=["OfItsOwnForCausalLM"])
