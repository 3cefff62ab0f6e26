"""What the checks of a checkpoint cost where an engine opens it, against the engine's start.

    python -m benchmarks.artifact_opening CHECKPOINT [--repeats 5]

The checkpoint is copied into an artifact of its own. Timed are the artifact's verification (files as they were built: size,
times and inode; and once with other times, so that every file is hashed), the names and shapes of its tensors, and one start
of vLLM, checks included.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from evals.checkpoint_config import read_config
from evals.engine import Engine, EngineKind, EngineSpec, EngineTuning
from evals.engines import installed_version, open_engine
from evals.transformers.weight_shapes import require_weight_shapes
from evals.vllm.environment import answer_for_cpu_build
from evals.weight_names import require_all_weights
from recipes.artifact import ArtifactStore
from recipes.artifact_manifest import Artifact
from recipes.checkpoint_files import loadable_files

DIGEST = "0123456789abcdef"


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(checkpoint: Path, home: Path, repeats: int) -> dict[str, float]:
    """Seconds of each check (median of `repeats`) and of one engine start."""
    store = ArtifactStore(home / "artifacts")
    artifact = store.build(DIGEST, lambda directory: _copy(checkpoint, directory), meta={})
    verify = statistics.median(seconds(lambda: store.verify(DIGEST)) for _ in range(repeats))
    config = read_config(artifact.path)
    names = statistics.median(
        seconds(lambda: require_all_weights(artifact.path, config)) for _ in range(repeats)
    )
    _import_vllm()
    first = seconds(lambda: require_weight_shapes(artifact.path, config))
    shapes = statistics.median(
        seconds(lambda: require_weight_shapes(artifact.path, config)) for _ in range(repeats)
    )
    begun = time.perf_counter()
    engine = _open(artifact)
    start = time.perf_counter() - begun
    engine.close()
    for path in artifact.path.iterdir():
        os.utime(path)
    hashed = seconds(lambda: store.verify(DIGEST))
    return {
        "gigabytes": artifact.size_bytes / 1e9,
        "verify_s": verify,
        "names_s": names,
        "shapes_first_s": first,
        "shapes_s": shapes,
        "verify_hashing_once_s": hashed,
        "engine_start_s": start,
        "verify_share": verify / start,
        "all_checks_share": (verify + names + shapes) / start,
        "all_checks_first_share": (verify + names + first) / start,
    }


def _import_vllm() -> None:
    """What every start of an engine imports anyway, torch and transformers among it, and no check has to pay for."""
    answer_for_cpu_build()
    for name in ("vllm", "vllm.v1.engine.llm_engine", "vllm.model_executor.models.llama"):
        importlib.import_module(name)


def _copy(checkpoint: Path, directory: Path) -> None:
    for name in loadable_files(checkpoint):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint / name, directory / name)


def _open(artifact: Artifact) -> Engine:
    spec = EngineSpec(
        kind=EngineKind.VLLM, version=installed_version(EngineKind.VLLM), dtype="bfloat16", max_length=1024
    )
    return open_engine(spec, artifact.path, EngineTuning())


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="mergeboard-opening-") as folder:
        figures = measure(given.checkpoint, Path(folder), given.repeats)
    print(json.dumps({"load_before": round(load, 1), **{k: round(v, 4) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
