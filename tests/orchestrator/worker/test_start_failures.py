"""Real vLLM engines that do not start, through the real host: each failure has the class of its cause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orchestrator.store.records import FailureClass
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

_RUN = """
import json, sys
from pathlib import Path
from evals.engine import EngineKind, EngineSpec, EngineTuning
from evals.engines import installed_version
from orchestrator.plan.job import CheckpointPlace, Task
from orchestrator.settings import WorkerContext
from orchestrator.worker.worker import EngineHost
from recipes.checkpoint import weights_digest
from tests.support.stand_in_plan import stand_in_plan

if __name__ == "__main__":
    home, checkpoint, parallel, cache = sys.argv[1:]
    spec = EngineSpec(kind=EngineKind.VLLM, version=installed_version(EngineKind.VLLM), dtype="float32",
                      max_length=256, tensor_parallel=int(parallel))
    tuning = EngineTuning(batch_size=4, threads=1, kv_cache_gib=float(cache))
    digest = weights_digest(Path(checkpoint), Path(home) / "hashes")
    job = stand_in_plan(1).evals[0].job.model_copy(
        update={"engine": spec, "tuning": tuning, "place": CheckpointPlace(name=checkpoint), "weights_digest": digest})
    (failure,) = EngineHost(WorkerContext(home=home, datasets=None)).run([Task(attempt_id="a", job=job)])
    with open(home + "/failure.json", "w") as file:
        json.dump(failure.model_dump(mode="json"), file)
"""


def change_weights(checkpoint: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    change(weights)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def healthy(checkpoint: Path) -> None:
    """As it is."""


def wrong_shape(checkpoint: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"

    def shorten(weights: dict[str, np.ndarray]) -> None:
        weights[name] = np.ascontiguousarray(weights[name][:-8, :])

    change_weights(checkpoint, shorten)


def missing_tensor(checkpoint: Path) -> None:
    # Of a norm: where a linear layer has none, vLLM 0.32 starts with whatever was in memory.
    change_weights(checkpoint, lambda weights: weights.pop("model.layers.1.input_layernorm.weight"))


def cut_off(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def unknown_architecture(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "architectures": ["FooForCausalLM"]}))


@pytest.mark.parametrize(
    ("break_it", "parallel", "cache_gib", "kind"),
    [
        (wrong_shape, 1, 0.1, FailureClass.BAD_CHECKPOINT),
        (wrong_shape, 2, 0.1, FailureClass.BAD_CHECKPOINT),
        (missing_tensor, 1, 0.1, FailureClass.BAD_CHECKPOINT),
        (cut_off, 1, 0.1, FailureClass.BAD_CHECKPOINT),
        (unknown_architecture, 1, 0.1, FailureClass.BAD_CHECKPOINT),
        (healthy, 1, 0.0001, FailureClass.TOO_LARGE),
    ],
)
def test_the_class_is_that_of_the_cause(
    break_it: Callable[[Path], None], parallel: int, cache_gib: float, kind: FailureClass, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "base", layers=2, dtype="float32")
    break_it(checkpoint)
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    root = str(Path(__file__).parents[3])
    subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(checkpoint), str(parallel), str(cache_gib)],
        check=True, cwd=root, timeout=300, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure["failure_class"] == kind, failure["message"] + failure["log_tail"]
    # What the headers show is refused before the engine starts.
    assert failure["message"].startswith(
        (f"vLLM does not start on {checkpoint}: ", f"{checkpoint} lacks weights ", f"{checkpoint}: tensor ")
    )
