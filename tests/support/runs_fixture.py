"""A home with a finished run in it, made once per test session by the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.tiny_checkpoints import tiny_checkpoint

SWEEP = """\
name: tiny
base: {base}
recipes:
  - "(1, 2)"
  - {{name: baseline again, layer_path: "(0, 0)"}}
  - name: merged
    materialize: true
    mergekit:
      slices:
        - sources: [{{model: {base}, layer_range: [0, 4]}}, {{model: {other}, layer_range: [0, 4]}}]
      merge_method: slerp
      base_model: {base}
      parameters: {{t: 0.5}}
      dtype: bfloat16
suites: [{{suite: smoke, limit: 6, benchmarks: [bbh, musr]}}]
engines: [transformers]
"""


@dataclass(frozen=True)
class Finished:
    """A home whose sweep has run."""

    home: Path
    sweep: Path
    run_id: str
    output: str


def mergeboard(
    *words: str, home: Path, timeout_s: float = 600, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    full = {**os.environ, "MERGEBOARD_HOME": str(home), "OMP_NUM_THREADS": "2", **env}
    command = [str(Path(sys.executable).parent / "mergeboard"), *words]
    return subprocess.run(command, env=full, capture_output=True, text=True, timeout=timeout_s, check=False)


def write_sweep(folder: Path) -> Path:
    """Two tiny checkpoints and a sweep over them."""
    base = tiny_checkpoint(folder / "tiny", seed=0)
    other = tiny_checkpoint(folder / "other", seed=1)
    sweep = folder / "sweep.yaml"
    sweep.write_text(SWEEP.format(base=base, other=other))
    return sweep


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny sweep, run to its end on a real Ray by `mergeboard run`; read only."""
    folder = tmp_path_factory.mktemp("finished")
    home = folder / "home"
    sweep = write_sweep(folder)
    result = mergeboard("run", str(sweep), home=home)
    assert result.returncode == 0, result.stderr
    run_id = result.stdout.split("Run ")[-1].split(":")[0]
    return Finished(home=home, sweep=sweep, run_id=run_id, output=result.stdout)
