"""Which kind of device this process can compute on, without loading torch where there is no GPU."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from evals.engine import DeviceKind

# NVIDIA, Windows' Linux, AMD. Without one of them there is no GPU to ask torch about, whose import takes seconds.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def has_gpu_device() -> bool:
    """Whether the system shows a GPU's device file."""
    return any(Path(device).exists() for device in _GPU_DEVICES)


def vllm_device(version: str) -> DeviceKind:
    """The device that a build of vLLM is for: a build serves one kind alone."""
    if "cpu" in version:
        return DeviceKind.CPU
    return DeviceKind.ROCM if "rocm" in version or "rocm" in _torch_version() else DeviceKind.CUDA


def torch_device() -> DeviceKind:
    """The device that torch would compute on here."""
    if "cpu" in _torch_version() or not has_gpu_device():
        return DeviceKind.CPU
    import torch

    if not torch.cuda.is_available():
        return DeviceKind.CPU
    return DeviceKind.ROCM if torch.version.hip else DeviceKind.CUDA


def compute_capability() -> tuple[int, int] | None:
    """Of the first visible CUDA device; null where none is visible."""
    if not has_gpu_device():
        return None
    import torch

    return torch.cuda.get_device_capability(0) if torch.cuda.is_available() else None


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""
