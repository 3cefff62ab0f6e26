"""How long a live vLLM takes to change its layer path, and whether a thousand changes leak.

    python benchmarks/layer_path_switch.py --checkpoint DIR [--switches 1000] [--dtype bfloat16] [--finer]

With `--finer`, the second pass through a block runs in part or damped, in one of many variants drawn at random for each path.
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
from recipes.layer_path import LayerPath
from recipes.layer_visit import WHOLE, Variant, VisitPart


def _variant(rng: random.Random) -> Variant:
    """Attention alone, MLP alone, or damped by a random factor, or both."""
    parts = (VisitPart.LAYER, VisitPart.ATTENTION, VisitPart.MLP)
    return Variant(part=rng.choice(parts), factor=rng.randrange(1, 1000) / 1000)


def main() -> None:
    """Switch and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--finer", action="store_true")
    options = parser.parse_args()
    n = require_live_family(options.checkpoint)
    blocks = [(i, j) for j in range(1, n + 1) for i in range(j)]
    rng = random.Random(0)
    paths = [
        LayerPath.of_blocks(((*rng.choice(blocks), _variant(rng) if options.finer else WHOLE),), n).layers
        for _ in range(options.switches)
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
