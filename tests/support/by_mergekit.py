"""mergekit's own commands, and checkpoints compared byte by byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recipes.checkpoint import weight_files
from recipes.tensor_file import read_header

SEED = 7


DEPTH_REFUSED = "must be equal to the number of `layer_types`"
"""With some architectures mergekit fails at the config of another depth, the weights being written."""

_RUN = """
import json, os, sys
from mergekit.scripts.multimerge import main as several
from mergekit.scripts.run_yaml import main as one

for file, folder, out, stages in json.loads(sys.argv[1]):
    os.chdir(folder)
    options = ["--random-seed", sys.argv[2], "--no-write-model-card"]
    try:
        (several if stages else one)([file, *(["-I", out] if stages else [out]), *options], standalone_mode=False)
    except Exception as error:
        if sys.argv[3] not in str(error):
            raise
"""


class Command(NamedTuple):
    """One call of `mergekit-yaml`, or of `mergekit-multi` where there are stages."""

    file: Path
    """The recipe."""
    folder: Path
    """Where it runs: its directories are what the recipe's `org/name` mean."""
    out: Path
    """Where it writes."""
    stages: bool = False


def run_mergekit(commands: Sequence[Command]) -> None:
    """Run mergekit's commands one after another in a process of their own."""
    calls = [[*map(str, command[:3]), command.stages] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(calls), str(SEED), DEPTH_REFUSED],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-900:]


def run_command(command: Command) -> None:
    """Run `mergekit-yaml`, or `mergekit-multi`, as a user does."""
    program = Path(sys.executable).parent / ("mergekit-multi" if command.stages else "mergekit-yaml")
    target = ["-I", str(command.out)] if command.stages else [str(command.out)]
    done = subprocess.run(
        [program, command.file, *target, "--random-seed", str(SEED), "--no-write-model-card"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=command.folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 or DEPTH_REFUSED in done.stderr, done.stderr[-900:]


def tensors_of(directory: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of a checkpoint: dtype, shape and bytes."""
    found = {}
    for file in weight_files(directory):
        data = (directory / file).read_bytes()
        for tensor in read_header(directory, file):
            content = data[tensor.start : tensor.start + tensor.size_bytes]
            found[tensor.name] = (tensor.dtype, tensor.shape, content)
    return found


def assert_same_tensors(ours: Path, theirs: Path) -> None:
    """Same names, dtypes, shapes and bytes."""
    mine, other = tensors_of(ours), tensors_of(theirs)
    assert mine.keys() == other.keys()
    assert [name for name in mine if mine[name] != other[name]] == []


def config_of(directory: Path) -> dict[str, object]:
    """config.json."""
    return dict(json.loads((directory / "config.json").read_text()))
