"""Run by Python at the start of every process that has this folder on PYTHONPATH (see tests/gpu_runner/v2.py).

It makes vLLM's Model Runner V2 start on CPU tensors, in the process itself, in its spawned tensor-parallel workers and in Ray's
workers: all inherit the environment. Modules are changed when they are imported, so a process without vLLM pays nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any


def _add_cpu_backend(backends: ModuleType) -> None:
    """vLLM uses Triton on a CPU where Triton has a backend of that name; the interpreter needs none."""
    driver = type("CPUDriver", (), {"is_active": staticmethod(lambda: True)})
    backends.backends.setdefault("cpu", SimpleNamespace(compiler=None, driver=driver))


def _keep_async_scheduling(platform: ModuleType) -> None:
    """The CPU platform turns async scheduling off, which is on where vLLM runs on a GPU."""
    check = platform.CpuPlatform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        check(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    platform.CpuPlatform.check_and_update_config = classmethod(check_and_update_config)


def _leave_to_scheduler(engine: ModuleType) -> None:
    """Every score and text goes through vLLM's scheduler, as in an engine without live paths."""
    engine.open_unscheduled = lambda *args, **named: None


def _tell(runner: ModuleType) -> None:
    """Add this process to the file of those that run V2: nothing else imports this module."""
    with open(os.environ["MERGEBOARD_TEST_V2_PROCESSES"], "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")


_CHANGES: dict[str, Callable[[ModuleType], None]] = {}
if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1":
    # With this backend vLLM takes V2 by itself, which needs the interpreter: TRITON_INTERPRET is set beside it.
    _CHANGES["triton.backends"] = _add_cpu_backend
if os.environ.get("MERGEBOARD_TEST_ASYNC_SCHEDULING") == "1":
    _CHANGES["vllm.platforms.cpu"] = _keep_async_scheduling
if os.environ.get("MERGEBOARD_TEST_SCHEDULER_ONLY") == "1":
    _CHANGES["evals.vllm.engine"] = _leave_to_scheduler
if "MERGEBOARD_TEST_V2_PROCESSES" in os.environ:
    _CHANGES["vllm.v1.worker.cpu.model_runner"] = _tell


class _ChangeAfterImport(MetaPathFinder):
    """Finds the modules that are to be changed, and changes them right after their own code has run."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        change = _CHANGES.get(name)
        spec = PathFinder.find_spec(name, path, target) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this spec's own loader
        return spec


sys.meta_path.insert(0, _ChangeAfterImport())
