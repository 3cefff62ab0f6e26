"""The kind of device that this process computes on; loads torch only if there is a GPU device file."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from evals.engine import DeviceKind

# NVIDIA, WSL, AMD. Without one of them there is no GPU, and the import of torch, which takes seconds, is skipped.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def has_gpu_device() -> bool:
    """Whether the system has a GPU's device file."""
    return any(Path(device).exists() for device in _GPU_DEVICES)


def vllm_device(version: str) -> DeviceKind:
    """The device of a vLLM build; each build supports one kind."""
    if "cpu" in version:
        return DeviceKind.CPU
    return DeviceKind.ROCM if "rocm" in version or "rocm" in _torch_version() else DeviceKind.CUDA


def torch_device() -> DeviceKind:
    """The device that torch computes on in this process."""
    if "cpu" in _torch_version() or not has_gpu_device():
        return DeviceKind.CPU
    import torch

    if not torch.cuda.is_available():
        return DeviceKind.CPU
    return DeviceKind.ROCM if torch.version.hip else DeviceKind.CUDA


def compute_capability() -> tuple[int, int] | None:
    """Compute capability of the first visible CUDA device; None if no device is visible."""
    if not has_gpu_device():
        return None
    import torch

    return torch.cuda.get_device_capability(0) if torch.cuda.is_available() else None


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""
