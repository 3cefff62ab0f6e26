"""setup.sh with stand-ins for pip and uv: which torch is asked for, where, and what is said when it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deploy_files import ROOT

# Notes what was asked for and "installs" torch as a version.py that names its build: CUDA from pip, CPU from uv's backend.
PIP = """#!/bin/sh
echo "pip $*" >>"$LOG"
case "$*" in
  "config list") [ -z "$INDEX" ] || echo ":env:.find-links='$INDEX'" ;;
  *"install"*torch==*) mkdir -p "$SITE/torch" && echo "cuda = $PIP_TORCH" >"$SITE/torch/version.py" ;;
  uninstall*) rm -rf "$SITE/torch" ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >>"$LOG"
case "$*" in
  *"--torch-backend cpu"*) [ "$UV_WORKS" = 1 ] || exit 2
    mkdir -p "$SITE/torch" && echo "cuda = None" >"$SITE/torch/version.py" ;;
esac
"""
# The interpreter of the set-up; only where its headers and packages lie is another answer than the real one's.
PYTHON = """#!{real}
import sys, sysconfig
places = dict(sysconfig.get_paths(), include={include!r}, purelib={site!r})
sysconfig.get_paths = lambda: places
if sys.argv[1:2] == ["-c"]:
    exec(sys.argv[2])
elif sys.argv[1:2] == ["-"]:
    exec(sys.stdin.read())
"""
NVIDIA_SMI = "#!/bin/sh\necho {version}\n"


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Machine:
    """A folder with the locks, an environment of stand-ins, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "deploy" / "locks", folder / "deploy" / "locks")
        for lock in ROOT.glob("requirements-*.lock"):
            shutil.copy(lock, folder)
        self.headers = folder / "include"
        self.site = folder / "site"
        python = PYTHON.format(real=sys.executable, include=str(self.headers), site=str(self.site))
        for path in (folder / ".venv" / "bin" / "python", folder / "bin" / "python3.11"):
            executable(path, python)
        executable(folder / ".venv" / "bin" / "pip", PIP)
        executable(folder / ".venv" / "bin" / "uv", UV)
        self.headers.mkdir()
        (self.headers / "Python.h").touch()
        self.env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "LOG": str(folder / "log"),
            "SITE": str(self.site),
            "INDEX": "",
            "PIP_TORCH": "'13.0'",
            "UV_WORKS": "1",
        }

    def set_up(self, target: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "deploy/locks/setup.sh", target, "python3.11", ".venv"]
        return subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, timeout=120
        )

    def torch_from(self) -> list[str]:
        """Who was asked for torch, in order."""
        asked = (self.folder / "log").read_text().splitlines()
        return [line.split()[0] for line in asked if "torch==" in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_an_index_of_ones_own_the_cpu_build_comes_from_pytorch(machine: Machine) -> None:
    made = machine.set_up("cpu")
    assert made.returncode == 0, made.stderr
    assert machine.torch_from() == ["uv"]


def test_an_index_that_has_the_cpu_build_is_enough(machine: Machine) -> None:
    machine.env |= {"INDEX": "/opt/wheels", "PIP_TORCH": "None", "UV_WORKS": "0"}
    assert machine.set_up("cpu").returncode == 0
    assert machine.torch_from() == ["pip"]


def test_where_the_index_offers_the_cuda_build_the_cpu_build_is_taken_from_pytorch(machine: Machine) -> None:
    machine.env["INDEX"] = "/opt/wheels"
    made = machine.set_up("cpu")
    assert made.returncode == 0, made.stderr
    assert machine.torch_from() == ["pip", "uv"]
    assert "taking PyTorch's own CPU build" in made.stderr


@pytest.mark.parametrize("index", ["", "/opt/wheels"])
def test_where_no_cpu_build_can_be_had_one_sentence_says_what_to_do(machine: Machine, index: str) -> None:
    machine.env |= {"INDEX": index, "UV_WORKS": "0"}
    refused = machine.set_up("cpu")
    assert refused.returncode == 2
    assert "PIP_EXTRA_INDEX_URL" in refused.stderr.splitlines()[-1]
    assert not (machine.site / "torch").exists()


def test_a_build_can_be_named_and_an_empty_name_takes_what_the_index_offers(machine: Machine) -> None:
    machine.env |= {"INDEX": "/opt/wheels", "TORCH_BACKEND": "cpu"}
    assert machine.set_up("cpu").returncode == 0
    assert machine.torch_from() == ["uv"]
    (machine.folder / "log").unlink()
    machine.env |= {"INDEX": "", "TORCH_BACKEND": "", "PIP_TORCH": "None"}
    assert machine.set_up("cpu").returncode == 0
    assert machine.torch_from() == ["pip"]


def test_a_gpu_machine_takes_torch_from_its_index(machine: Machine) -> None:
    executable(machine.folder / "bin" / "nvidia-smi", NVIDIA_SMI.format(version="580.65.06"))
    made = machine.set_up("gpu")
    assert (made.returncode, made.stderr) == (0, "")
    assert machine.torch_from() == ["pip"]


def test_a_cpu_build_on_a_gpu_machine_is_refused(machine: Machine) -> None:
    machine.env["PIP_TORCH"] = "None"
    refused = machine.set_up("gpu")
    assert refused.returncode == 2
    assert "offers a CPU build" in refused.stderr


def test_an_old_driver_or_none_is_said_and_does_not_stop_an_images_build(machine: Machine) -> None:
    executable(machine.folder / "bin" / "nvidia-smi", NVIDIA_SMI.format(version="570.86.15"))
    old = machine.set_up("gpu")
    assert old.returncode == 0
    assert "NVIDIA driver 570.86.15 is too old" in old.stderr
    executable(machine.folder / "bin" / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    absent = machine.set_up("gpu")
    assert absent.returncode == 0
    assert "no NVIDIA driver answers" in absent.stderr


def test_without_pythons_headers_a_gpu_set_up_ends_before_anything_is_fetched(machine: Machine) -> None:
    (machine.headers / "Python.h").unlink()
    refused = machine.set_up("gpu")
    assert refused.returncode == 2
    assert "python3.11-dev" in refused.stderr
    assert not (machine.folder / "log").exists()


def test_without_a_compiler_a_gpu_set_up_ends_before_anything_is_fetched(machine: Machine) -> None:
    tools = machine.folder / "tools"
    tools.mkdir()
    for name in ("bash", "grep", "head", "env"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    machine.env["PATH"] = f"{machine.folder / 'bin'}:{tools}"
    refused = machine.set_up("gpu")
    assert refused.returncode == 2
    assert "no C compiler" in refused.stderr
