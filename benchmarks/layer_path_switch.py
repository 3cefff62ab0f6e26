"""How long a live vLLM takes to change its layer path, and whether a thousand changes leak.

    python benchmarks/layer_path_switch.py --checkpoint DIR [--switches 1000] [--dtype bfloat16]

Between two measured switches in a hundred, a request runs on the path, so that what is measured is an engine at work. Memory is
the process's resident memory, which on a CPU holds weights and KV cache too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import time
from pathlib import Path

import psutil

from evals.engine import EngineKind, EngineSpec, EngineTuning, ScoreRequest
from evals.engines import installed_version, open_engine
from evals.live_paths import require_live_family


def main() -> None:
    """Switch and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    n = require_live_family(options.checkpoint)
    blocks = [(i, j) for j in range(1, n + 1) for i in range(j)]
    rng = random.Random(0)
    paths = [
        tuple(range(j)) + tuple(range(i, n)) for i, j in (rng.choice(blocks) for _ in range(options.switches))
    ]
    version = installed_version(EngineKind.VLLM)
    spec = EngineSpec(kind=EngineKind.VLLM, version=version, dtype=options.dtype, max_length=1024)
    engine = open_engine(spec, options.checkpoint, EngineTuning(extra_layer_slots=n, kv_cache_gib=0.5))
    request = ScoreRequest(context=tuple(range(100, 140)), continuations=((5,), (6, 7)))
    process = psutil.Process(os.getpid())

    def resident() -> int:
        gc.collect()
        return int(process.memory_info().rss)

    engine.set_layer_path(paths[0])
    list(engine.score([request]))
    spent, after_first = [], resident()
    for number, path in enumerate(paths):
        begun = time.perf_counter()
        engine.set_layer_path(path)
        spent.append(1000 * (time.perf_counter() - begun))
        if number % 100 == 0:
            list(engine.score([request]))
    after_all = resident()
    print(
        json.dumps(
            {
                "switches": len(spent),
                "median_ms": round(statistics.median(spent), 2),
                "p99_ms": round(statistics.quantiles(spent, n=100)[98], 2),
                "largest_ms": round(max(spent), 2),
                "resident_after_first_mib": round(after_first / 2**20, 1),
                "resident_after_all_mib": round(after_all / 2**20, 1),
                "load_1min": os.getloadavg()[0],
            },
            indent=1,
        )
    )
    engine.close()


if __name__ == "__main__":
    main()
