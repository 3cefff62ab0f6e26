"""Quantised copies of tiny checkpoints, written tensor by tensor in the formats of compressed-tensors and GPTQ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

GROUP = 32
"""Input columns that share a scale in 4-bit formats."""

INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False,
            },
            "input_activations": {
                "num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True,
            },
        }
    },
}  # fmt: skip
INT4 = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP, "dynamic": False,
            },
        }
    },
}  # fmt: skip
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "ignored_layers": ["lm_head"]}
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Place of each of eight neighbouring outputs among the four-bit codes of a number, from the lowest bits."""

FORMATS: dict[str, dict[str, Any]] = {"int8": INT8, "int4": INT4, "gptq": GPTQ, "awq": AWQ, "fp8": FP8}


def quantised(checkpoint: Path, folder: Path, form: str) -> Path:
    """A copy whose linear layers are quantised in one of FORMATS."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": FORMATS[form]}))
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "_proj." in name:
            stored |= _packed(name.removesuffix(".weight"), tensor.float(), form)
        else:
            stored[name] = tensor
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return folder


def dequantised(checkpoint: Path, folder: Path, form: str) -> Path:
    """A copy with the numbers that the quantised one stands for, in its own dtype."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if "_proj." in name and form == "fp8":
            stored, scale = _eight_bit_floats(tensor.float())
            tensors[name] = (stored.float() * scale).to(tensor.dtype)
        elif "_proj." in name:
            codes, scale = _codes(tensor.float(), form)
            tensors[name] = (codes * scale.repeat_interleave(codes.shape[1] // scale.shape[1], 1)).to(
                tensor.dtype
            )
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def _codes(weight: torch.Tensor, form: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed codes [outputs, inputs] and bfloat16 scales [outputs, groups] of a matrix."""
    rows, columns = weight.shape
    size, top = (columns, 127) if form == "int8" else (GROUP, 7)
    groups = weight.view(rows, columns // size, size)
    scale = (groups.abs().amax(-1, keepdim=True) / top).clamp_min(1e-8).bfloat16().float()
    codes = (groups / scale).round().clamp(-top - 1, top)
    return codes.view(rows, columns), scale[..., 0]


def _packed(module: str, weight: torch.Tensor, form: str) -> dict[str, torch.Tensor]:
    if form == "fp8":
        stored, whole = _eight_bit_floats(weight)
        return {f"{module}.weight": stored, f"{module}.weight_scale": whole}
    codes, scale = _codes(weight, form)
    if form == "awq":
        eights = torch.full((weight.shape[0], scale.shape[1]), 8.0)
        return {
            f"{module}.qweight": _eight_outputs_in_one(codes + 8),
            f"{module}.qzeros": _eight_outputs_in_one(eights),
            f"{module}.scales": scale.t().contiguous().half(),
        }
    if form == "int8":
        return {f"{module}.weight": codes.to(torch.int8), f"{module}.weight_scale": scale.bfloat16()}
    if form == "int4":
        return {
            f"{module}.weight_packed": _eight_in_one(codes + 8),
            f"{module}.weight_scale": scale.bfloat16(),
            f"{module}.weight_shape": torch.tensor(weight.shape),
        }
    groups = scale.shape[1]
    zeros = torch.full((weight.shape[0], groups), 7.0)  # GPTQ stores zero points minus one
    return {
        f"{module}.qweight": _eight_in_one(codes + 8).t().contiguous(),
        f"{module}.qzeros": _eight_in_one(zeros.t().contiguous()),
        f"{module}.scales": scale.t().contiguous().half(),
        f"{module}.g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // GROUP,
    }


def _eight_in_one(codes: torch.Tensor) -> torch.Tensor:
    """Codes from 0 to 15 packed along the last dimension, the first in the lowest bits: int32 [rows, columns / 8]."""
    grouped = codes.to(torch.int64).view(codes.shape[0], -1, 8)
    shifts = torch.arange(0, 32, 4)
    return (grouped << shifts).sum(-1).to(torch.int32)


def _eight_bit_floats(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as float8_e4m3fn, and the scale of the whole matrix."""
    scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
    return (weight / scale).to(torch.float8_e4m3fn), scale.reshape(())


def _eight_outputs_in_one(codes: torch.Tensor) -> torch.Tensor:
    """Codes [outputs, inputs] packed along the outputs in AWQ's order: int32 [inputs, outputs / 8]."""
    grouped = codes.t().contiguous().view(codes.shape[1], -1, 8)
    return _eight_in_one(grouped[..., list(_AWQ_ORDER)].reshape(codes.shape[1], -1))
