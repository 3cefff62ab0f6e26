"""The mergekit commands in processes of their own, and checkpoints compared byte by byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from recipes.checkpoint import weight_files
from recipes.tensor_file import read_header

SEED = 7


def run_mergekit(file: Path, folder: Path, *, several: bool = False) -> Path:
    """What `mergekit-yaml` (or `mergekit-multi`) writes of a file, run in a folder that holds org/name directories."""
    out = folder / f"{file.stem}.by-mergekit"
    command = [
        str(Path(sys.executable).parent / ("mergekit-multi" if several else "mergekit-yaml")),
        str(file),
    ]
    command += ["-I", str(out)] if several else [str(out)]
    done = subprocess.run(
        [*command, "--random-seed", str(SEED), "--no-write-model-card"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # With some architectures mergekit fails at the config of another depth, the weights being written.
    assert done.returncode == 0 or "must be equal to the number of `layer_types`" in done.stderr, done.stderr[
        -900:
    ]
    return out


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
