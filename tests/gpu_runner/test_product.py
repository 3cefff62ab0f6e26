"""The whole product through Ray on the GPU's model runner: the same answers as on the CPU's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evals.samples import read_samples
from evals.scores import Sample
from tests.gpu_runner.v2 import ROOT, Runner

pytestmark = [pytest.mark.gpu_runner, pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(3600)]

DOCUMENTS = int(os.environ.get("MERGEBOARD_TEST_SMOKE_DOCUMENTS", "1"))
"""Documents of each subset of the smoke suite; Triton's interpreter takes a second for a handful of tokens."""
MOST_NEAR_TIES = 0.05
TOLERANCE = 1e-3


def smoke(home: Path, runner: Runner, limit: int) -> dict[tuple[str, str, int], Sample]:
    """Samples of `mergeboard eval` on a Ray of its own, by benchmark, subset and document."""
    command = ["eval", "demo/SmolLM2-135M-Instruct", "--suite", "smoke", "--dtype", "float32", "--json"]
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("mergeboard")), *command, "--limit", str(limit)],
        cwd=ROOT,
        env=runner.environment()
        | {"MERGEBOARD_HOME": str(home), "MERGEBOARD_TEST_V2_PROCESSES": str(home / "v2-processes")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    samples = [sample for file in (home / "samples").rglob("*.parquet") for sample in read_samples(file)]
    return {(s.benchmark, s.subset, s.doc_id): s for s in samples}


def test_the_smoke_suite_gives_the_same_answers(tmp_path: Path) -> None:
    homes = {
        runner: tmp_path / f"v{1 + runner.v2}"
        for runner in (
            Runner(v2=False, scheduler_only=True),
            Runner(async_scheduling=True, scheduler_only=True),
        )
    }
    for home in homes.values():
        home.mkdir()
    v1, v2 = (smoke(home, runner, DOCUMENTS) for runner, home in homes.items())
    assert not (tmp_path / "v1" / "v2-processes").exists()
    assert (tmp_path / "v2" / "v2-processes").read_text(encoding="utf-8").strip()
    assert v1.keys() == v2.keys()
    assert {bool(s.choices) for s in v1.values()} == {True, False}
    other = [key for key in v1 if v1[key].response != v2[key].response]
    for key, expected in v1.items():
        assert v2[key].logprobs == pytest.approx(expected.logprobs, abs=TOLERANCE)
        if key not in other:
            assert v2[key].metrics == expected.metrics
    print(f"{len(other)} of {len(v1)} answers differ: {other}")
    assert len(other) <= MOST_NEAR_TIES * len(v1)
