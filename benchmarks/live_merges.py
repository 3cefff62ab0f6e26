"""Live merges beside building: from the next candidate to its first answer, and candidates an hour, on one engine.

    python benchmarks/live_merges.py --home DIR [--live 8] [--rounds 2] [--questions 64] [--json FILE]

Two sources (the demo model and its noisy copy), vLLM in bfloat16 on all cores, one process. Both sides answer the same scored
questions; a built candidate is written by mergekit, whose process stays open, and gets an engine of its own, as in a sweep with
`materialize: true`. The sides alternate, so that both meet the same load of the machine. The first live merge imports mergekit and
is reported apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from evals.engine import EngineKind, EngineSpec, EngineTuning, PathEngine, ScoreRequest
from evals.engines import installed_version, open_engine
from recipes.demo import BASE, NOISE, ensure_demo_checkpoint
from recipes.merge import BuildOptions, MergedWeights, MergekitProcess, build
from recipes.recipe import Recipe


class Spent(NamedTuple):
    """Seconds by the clock, and of all cores for this process and its children; on a busy machine the second is the steadier."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Self:
        """Both clocks."""
        this_process = psutil.Process()
        times = [process.cpu_times() for process in (this_process, *this_process.children(recursive=True))]
        return cls(time.perf_counter(), sum(spent.user + spent.system for spent in times))

    def since(self) -> Spent:
        """From this moment to now."""
        now = Spent.now()
        return Spent(now.wall_s - self.wall_s, now.cpu_s - self.cpu_s)


METHODS = ("linear", "slerp", "ties", "dare_ties")


def document(method: str, weight: float) -> dict[str, Any]:
    """A candidate: a merge of the two sources with one number to search for."""
    parameters = {"weight": weight} | ({"density": 0.5} if "ties" in method else {})
    if method == "linear":
        models = [("base", {"weight": 1 - weight}), ("other", {"weight": weight})]
        return {
            "merge_method": method,
            "models": [{"model": model, "parameters": values} for model, values in models],
            "dtype": "bfloat16",
        }
    data: dict[str, Any] = {"merge_method": method, "base_model": "base", "dtype": "bfloat16"}
    if method == "slerp":
        return {**data, "models": [{"model": "other"}], "parameters": {"t": weight}}
    return {**data, "models": [{"model": "other", "parameters": parameters}]}


def candidates() -> Iterator[tuple[str, Recipe]]:
    """Candidates without end, method after method."""
    rng = random.Random(0)
    while True:
        for method in METHODS:
            yield method, Recipe.from_data(document(method, round(rng.uniform(0.1, 0.9), 4)))


def questions(count: int) -> list[ScoreRequest]:
    """Questions of 40 to 80 tokens with four choices of one to three tokens."""
    rng = random.Random(1)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1000, 40_000) for _ in range(rng.randint(low, high)))

    return [
        ScoreRequest(context=tokens(40, 80), continuations=tuple(tokens(1, 3) for _ in range(4)))
        for _ in range(count)
    ]


class Sides:
    """Both ways to answer the questions with a candidate; every method returns seconds."""

    def __init__(self, home: Path, asked: list[ScoreRequest]) -> None:
        self._sources = {
            "base": ensure_demo_checkpoint(home, BASE),
            "other": ensure_demo_checkpoint(home, NOISE),
        }
        self._asked = asked
        self._mergekit = MergekitProcess()
        self._folder = Path(tempfile.mkdtemp(prefix="live-merges-", dir=home))

    def open(self, checkpoint: Path | None = None) -> PathEngine:
        """An engine of a checkpoint, or of the base."""
        kind = EngineKind.VLLM
        spec = EngineSpec(kind=kind, version=installed_version(kind), dtype="bfloat16", max_length=512)
        return open_engine(spec, checkpoint or self._sources["base"], EngineTuning(kv_cache_gib=0.5))

    def live(self, engine: PathEngine, recipe: Recipe) -> list[Spent]:
        """Until the weights are loaded, until the first answer, and until all answers."""
        weights = MergedWeights(
            recipe=recipe.canonical_text, digest="0" * 16, sources=tuple(self._sources.items())
        )
        begun = Spent.now()
        engine.load_weights(weights)
        return [begun.since(), *self._answer(engine, begun)]

    def built(self, recipe: Recipe) -> list[Spent]:
        """Until the files are written, until the first answer, and until all answers and the engine's end."""
        out = self._folder / "built"
        begun = Spent.now()
        build(recipe, self._sources, out, options=BuildOptions(), mergekit=self._mergekit)
        written = begun.since()
        engine = self.open(out)
        first, _ = self._answer(engine, begun)
        engine.close()
        spent = begun.since()
        shutil.rmtree(out)
        return [written, first, spent]

    def _answer(self, engine: PathEngine, begun: Spent) -> tuple[Spent, Spent]:
        list(engine.score(self._asked[:1]))
        first = begun.since()
        list(engine.score(self._asked))
        return first, begun.since()

    def close(self) -> None:
        """End mergekit's process and delete what was built."""
        self._mergekit.close()
        shutil.rmtree(self._folder)


def report(name: str, spent: list[Spent]) -> None:
    """One line of progress."""
    marks = ", ".join(f"{mark.wall_s:.2f} s ({mark.cpu_s:.2f} CPU s)" for mark in spent)
    print(f"{name}: {marks}", file=sys.stderr, flush=True)


def medians(rows: list[list[Spent]]) -> dict[str, list[float]]:
    """The medians of both clocks at each mark, in seconds."""
    marks = list(zip(*rows, strict=True))
    return {
        "seconds": [round(statistics.median(spent.wall_s for spent in mark), 2) for mark in marks],
        "CPU seconds": [round(statistics.median(spent.cpu_s for spent in mark), 2) for mark in marks],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--live", type=int, default=8, help="live candidates per round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, each with one built candidate")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sides, stream = Sides(options.home, questions(options.questions)), candidates()
    rows: dict[str, list[list[Spent]]] = {"built": [], **{method: [] for method in METHODS}}
    first_merge: list[Spent] | None = None
    for _ in range(options.rounds):
        method, recipe = next(stream)
        rows["built"].append(sides.built(recipe))
        report(f"built {method}", rows["built"][-1])
        engine = sides.open()
        list(engine.score(questions(options.questions)))
        for _ in range(options.live):
            method, recipe = next(stream)
            spent = sides.live(engine, recipe)
            report(f"live {method}", spent)
            if first_merge is None:
                first_merge = spent
            else:
                rows[method].append(spent)
        engine.close()
    sides.close()
    live, built = medians([row for method in METHODS for row in rows[method]]), medians(rows["built"])
    result = {
        "marks": ["loaded or written", "first answer", "all answers"],
        "medians": {name: medians(found) for name, found in rows.items() if found} | {"live": live},
        "first live merge of the process": medians([first_merge or []]),
        "candidates an hour": {
            "live": round(3600 / live["seconds"][2]),
            "built": round(3600 / built["seconds"][2]),
        },
        "ratio": {clock: round(built[clock][2] / live[clock][2], 1) for clock in live},
        "number": {name: len(found) for name, found in rows.items()},
        "load_1min": os.getloadavg()[0],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
