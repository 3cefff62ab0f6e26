"""Live merges beside building: from the next candidate to its first answer, and candidates an hour, on one engine.

    python benchmarks/live_merges.py --home DIR [--live 4] [--built 1] [--questions 64] [--json FILE]

Two sources (the demo model and its noisy copy), vLLM in bfloat16 on all cores, all sides in one run. All answer the same scored questions. A
built candidate is written by mergekit in a new process and gets an engine in a new process, as in a sweep with `materialize: true`; "warm" is
the same in processes that have loaded their libraries, the least that a loop of builds and engines can need. Live candidates of a method
follow each other, as in a search. The first of a method computes what the next ones find kept, and the first of all imports mergekit: both are
reported apart. `--change-density` searches the density too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from evals.engine import EngineKind, EngineSpec, EngineTuning, PathEngine, ScoreRequest
from evals.engines import installed_version, open_engine
from recipes.demo import BASE, NOISE, ensure_demo_checkpoint
from recipes.merge import BuildOptions, MergedWeights, MergekitProcess, build
from recipes.merge.kept import kept
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
        # Of children that ended, the parent knows the times.
        return cls(
            time.perf_counter(),
            sum(t.user + t.system + t.children_user + t.children_system for t in times),
        )

    def since(self) -> Spent:
        """From this moment to now."""
        now = Spent.now()
        return Spent(now.wall_s - self.wall_s, now.cpu_s - self.cpu_s)


METHODS = ("linear", "slerp", "ties", "dare_ties")


def document(method: str, weight: float, density: float) -> dict[str, Any]:
    """A candidate: a merge of the two sources with one or two numbers to search for."""
    parameters = {"weight": weight} | ({"density": density} if "ties" in method else {})
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


def candidates(method: str, *, change_density: bool) -> Iterator[Recipe]:
    """Candidates of a method without end."""
    rng = random.Random(method)
    while True:
        weight, density = round(rng.uniform(0.1, 0.9), 4), round(rng.uniform(0.2, 0.8), 4)
        yield Recipe.from_data(document(method, weight, density if change_density else 0.5))


def questions(count: int) -> list[ScoreRequest]:
    """Questions of 40 to 80 tokens with four choices of one to three tokens."""
    rng = random.Random(1)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1000, 40_000) for _ in range(rng.randint(low, high)))

    return [
        ScoreRequest(context=tokens(40, 80), continuations=tuple(tokens(1, 3) for _ in range(4)))
        for _ in range(count)
    ]


def opened(checkpoint: Path, threads: int | None) -> PathEngine:
    """An engine of a checkpoint."""
    kind = EngineKind.VLLM
    spec = EngineSpec(kind=kind, version=installed_version(kind), dtype="bfloat16", max_length=512)
    return open_engine(spec, checkpoint, EngineTuning(kv_cache_gib=0.5, threads=threads))


def answer_in_process(
    checkpoint: Path, threads: int | None, asked: list[ScoreRequest], first_answer: Connection
) -> None:
    """Answer the questions in a new process, which tells when it has the first one."""
    engine = opened(checkpoint, threads)
    list(engine.score(asked[:1]))
    first_answer.send(True)
    list(engine.score(asked[1:]))
    engine.close()


class Sides:
    """Both ways to answer the questions with a candidate; every method returns seconds."""

    def __init__(self, home: Path, asked: list[ScoreRequest], threads: int | None) -> None:
        self._sources = {
            "base": ensure_demo_checkpoint(home, BASE),
            "other": ensure_demo_checkpoint(home, NOISE),
        }
        self._asked = asked
        self._threads = threads
        self._mergekit = MergekitProcess(threads)
        self._folder = Path(tempfile.mkdtemp(prefix="live-merges-", dir=home))

    def open(self) -> PathEngine:
        """An engine of the base."""
        return opened(self._sources["base"], self._threads)

    def live(self, engine: PathEngine, recipe: Recipe) -> list[Spent]:
        """Until the weights are loaded, until the first answer, and until all answers."""
        weights = MergedWeights(
            recipe=recipe.canonical_text, digest="0" * 16, sources=tuple(self._sources.items())
        )
        begun = Spent.now()
        engine.load_weights(weights)
        return [begun.since(), *self._answer(engine, begun)]

    def built(self, recipe: Recipe, *, warm: bool) -> list[Spent]:
        """Until the files are written, until the first answer, and until all answers and the engine's end."""
        out = self._folder / "built"
        options = BuildOptions(threads=self._threads)
        begun = Spent.now()
        build(recipe, self._sources, out, options=options, mergekit=self._mergekit if warm else None)
        written = begun.since()
        if warm:
            engine = opened(out, self._threads)
            first, _ = self._answer(engine, begun)
            engine.close()
        else:
            receive, send = multiprocessing.Pipe(duplex=False)
            arguments = out, self._threads, self._asked, send
            process = multiprocessing.get_context("spawn").Process(target=answer_in_process, args=arguments)
            process.start()
            receive.recv()
            first = begun.since()
            process.join()
        spent = begun.since()
        shutil.rmtree(out)
        return [written, first, spent]

    def _answer(self, engine: PathEngine, begun: Spent) -> tuple[Spent, Spent]:
        list(engine.score(self._asked[:1]))
        first = begun.since()
        list(engine.score(self._asked[1:]))
        return first, begun.since()

    def close(self) -> None:
        """End mergekit's process and delete what was built."""
        self._mergekit.close()
        shutil.rmtree(self._folder)


def report(name: str, spent: list[Spent]) -> None:
    """One line of progress."""
    marks = ", ".join(f"{mark.wall_s:.2f} s ({mark.cpu_s:.2f} CPU s)" for mark in spent)
    print(f"{name}: {marks}", file=sys.stderr, flush=True)


def medians(rows: list[list[Spent]]) -> dict[str, Any]:
    """The medians of both clocks at each mark, in seconds."""
    marks = list(zip(*rows, strict=True))
    return {
        "seconds": [round(statistics.median(spent.wall_s for spent in mark), 2) for mark in marks],
        "CPU seconds": [round(statistics.median(spent.cpu_s for spent in mark), 2) for mark in marks],
    }


Rows = dict[str, list[list[Spent]]]
SIDES = ("built", "built warm", "first live", "live")


def measured(sides: Sides, options: argparse.Namespace) -> dict[str, Rows]:
    """Candidates of each method, by how they are evaluated."""
    rows: dict[str, Rows] = {side: {method: [] for method in METHODS} for side in SIDES}
    streams = {method: candidates(method, change_density=options.change_density) for method in METHODS}

    def note(side: str, method: str, spent: list[Spent]) -> None:
        rows[side][method].append(spent)
        report(f"{side} {method}", spent)

    for method, stream in streams.items():
        for _ in range(options.built):
            note("built", method, sides.built(next(stream), warm=False))
    sides.built(next(streams["linear"]), warm=True)  # loads the libraries
    for method, stream in streams.items():
        for _ in range(options.built):
            note("built warm", method, sides.built(next(stream), warm=True))
    engine = sides.open()
    list(engine.score(questions(options.questions)))
    for method, stream in streams.items():
        for number in range(options.live + 1):
            note("live" if number else "first live", method, sides.live(engine, next(stream)))
    engine.close()
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--live", type=int, default=4, help="live candidates of each method after its first")
    parser.add_argument("--built", type=int, default=1, help="built candidates of each method")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--threads", type=int, help="threads of both sides; by default one for each core")
    parser.add_argument("--change-density", action="store_true", help="another density for each candidate")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sides = Sides(options.home, questions(options.questions), options.threads)
    rows = measured(sides, options)
    sides.close()
    methods = {}
    for method in METHODS:
        row: dict[str, Any] = {side: medians(rows[side][method]) for side in SIDES if rows[side][method]}
        for side, values in row.items():
            values["an hour"] = round(3600 / values["seconds"][2])
            if side.startswith("built") and "live" in row:
                values["live against it"] = round(values["seconds"][2] / row["live"]["seconds"][2], 1)
        methods[method] = row
    result = {
        "marks": ["loaded or written", "first answer", "all answers"],
        "methods": methods,
        "kept MiB": kept().size >> 20,
        "load_1min": os.getloadavg()[0],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
