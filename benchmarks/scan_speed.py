"""The speed of a scan: many layer paths at once against a plain loop over a live vLLM, on the same paths in one run.

    python benchmarks/scan_speed.py --checkpoint DIR [--paths 20] [--dtype bfloat16]

written   the 16 arithmetic questions of the published length, 64 new tokens each
scored    the three scored probes of a scan's search set

The plain loop is what one writes first: change the path, give vLLM all prompts, read the answers; for scored probes the
log-probabilities of a question's options from one request where they are one token each, else an option behind its prompt as a
request of its own, with `prompt_logprobs`. Times are seconds per path, the
best of `--rounds` rounds, sides in turn: on the wall, and of all cores, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from evals.engine import EngineKind, EngineSpec, EngineTuning, GenerateRequest, PathEngine, ScoreRequest
from evals.engines import installed_version, open_engine
from evals.live_paths import require_live_family
from evals.probes import SCAN_KEYS, get_probe
from evals.scores import ChatTemplate

LayerPath = tuple[int, ...]


def main() -> None:
    """Measure all sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--paths", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    paths = chosen_paths(require_live_family(options.checkpoint), options.paths)
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    probe = get_probe("arithmetic-published-generated-search")
    written = [r for r in probe.requests(tokenizer, ChatTemplate.ON) if isinstance(r, GenerateRequest)]
    asked = [get_probe(f"{key}-search").requests(tokenizer, ChatTemplate.OFF) for key in SCAN_KEYS]
    scored = [r for requests in asked for r in requests if isinstance(r, ScoreRequest)]
    version = installed_version(EngineKind.VLLM)
    spec = EngineSpec(kind=EngineKind.VLLM, version=version, dtype=options.dtype, max_length=4096)
    engine = open_engine(spec, options.checkpoint, EngineTuning(extra_layer_slots=len(max(paths, key=len))))
    sides: dict[str, Callable[[], None]] = {
        "written, ours": lambda: drain(engine.generate_paths(written, paths)),
        "written, plain loop": lambda: loop(engine, paths, lambda: drain(engine.generate(written))),
        "scored, ours": lambda: drain(engine.score_paths(scored, paths)),
        "scored, plain loop": lambda: loop(engine, paths, lambda: plain_scores(engine, scored)),
    }
    wall: dict[str, float] = {}
    cores: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, run in sides.items():
            begun, used = time.perf_counter(), time.process_time()
            run()
            each_s = (time.perf_counter() - begun) / len(paths)
            core_s = (time.process_time() - used) / len(paths)
            wall[name], cores[name] = (
                min(wall.get(name, each_s), each_s),
                min(cores.get(name, core_s), core_s),
            )
            load = os.getloadavg()[0]
            print(f"{name}: {each_s:.2f} s per path, {core_s:.2f} s of cores (load {load:.1f})", flush=True)
    engine.close()
    found: dict[str, Any] = {}
    for what, best in (("wall_s", wall), ("cores_s", cores)):
        found |= {f"{name}, {what}": round(value, 3) for name, value in best.items()}
        for kind in ("written", "scored"):
            times = best[f"{kind}, plain loop"] / best[f"{kind}, ours"]
            found[f"{kind}, times faster, {what}"] = round(times, 2)
    print(
        json.dumps(
            {"paths": len(paths), "questions": len(written), "score_requests": len(scored), **found}, indent=1
        )
    )


def chosen_paths(n_layers: int, count: int) -> list[LayerPath]:
    """The fixed list: so many of all (i, j), drawn with one seed."""
    blocks = [(i, j) for i in range(n_layers) for j in range(i + 1, n_layers + 1)]
    return [tuple(range(j)) + tuple(range(i, n_layers)) for i, j in random.Random(2026).sample(blocks, count)]


def drain(results: Any) -> None:
    """Read everything."""
    for _ in results:
        pass


def loop(engine: PathEngine, paths: list[LayerPath], run: Callable[[], None]) -> None:
    """One path after the other."""
    for path in paths:
        engine.set_layer_path(path)
        run()
    engine.set_layer_path(None)


def plain_scores(engine: Any, requests: list[ScoreRequest]) -> None:
    """One request per question where its options are one token each, else one per option."""
    from vllm import SamplingParams, TokensPrompt

    engine._claim_cache("score")
    prompts, asked = [], []
    for request in requests:
        if all(len(option) == 1 for option in request.continuations):
            prompts.append(TokensPrompt(prompt_token_ids=list(request.context)))
            wanted = [option[0] for option in request.continuations]
            asked.append(SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=wanted))
            continue
        for option in request.continuations:
            prompts.append(TokensPrompt(prompt_token_ids=[*request.context, *option]))
            asked.append(SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=1))
    engine._llm.generate(prompts, asked, use_tqdm=False)


if __name__ == "__main__":
    main()
