"""The steps of `benchmarks/gpu.py`: each is a function of the sizes that returns what its line of the results holds."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_setup import (
    LARGE,
    SMALL,
    TINY,
    LayerPath,
    Result,
    Sizes,
    engine_settings,
    has_gpu,
    opened_engine,
    random_checkpoint,
    random_prompts,
    random_questions,
    timed,
)
from evals.engine import (
    EngineKind,
    ExecutionMode,
    GenerateRequest,
    ScoreResult,
)
from evals.engines import installed_version
from tests.gpu.ways import eager, exact, scheduler_alone


def environment(sizes: Sizes) -> Result:
    """The machine, its software, and what an engine of each dtype chooses."""
    result: Result = {
        name: importlib.metadata.version(name) for name in ("torch", "transformers", "triton", "ray")
    }
    result["vllm"] = installed_version(EngineKind.VLLM)
    result["cuda"] = torch.version.cuda
    if has_gpu():
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        asked = subprocess.run(query, capture_output=True, text=True, check=False)
        result["cards"] = asked.stdout.strip().splitlines() or [torch.cuda.get_device_name()]
        result["capability"] = torch.cuda.get_device_capability()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), TINY, weights=True)
        for dtype in ("bfloat16", "float32"):
            start_s, how = timed(functools.partial(_open_and_ask, checkpoint, sizes, dtype))
            result[dtype] = {**how, "start_and_stop_s": round(start_s, 1)}
    return result


def _open_and_ask(checkpoint: Path, sizes: Sizes, dtype: str) -> Result:
    with opened_engine(checkpoint, sizes, dtype=dtype) as engine:
        runner = engine._llm.collective_rpc(_runner_name)[0]
        return {**engine_settings(engine), "runner": runner}


def _runner_name(worker: Any) -> str:
    return f"{type(worker.model_runner).__module__}.{type(worker.model_runner).__name__}"


def _tests(dtype: str, sizes: Sizes) -> Result:
    """tests/gpu in one dtype; in tiny form one family of it."""
    environment = {**os.environ, "MERGEBOARD_GPU_TESTS_DTYPE": dtype}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-W",
        "ignore",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "tests/gpu",
    ]
    command += ["--ignore", "tests/gpu/test_kill.py"]  # a step of its own
    if sizes.tiny:
        environment["MERGEBOARD_GPU_TESTS_ON_CPU"] = "1"
        command += ["-k", f"(llama or bit_by_bit or built_path_is) and {dtype}"]
    elif dtype == "float32":
        command += ["-k", "float32"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = ended.stdout.strip().splitlines()
    if ended.returncode:
        raise RuntimeError("\n".join(lines[-40:]))
    return {"summary": lines[-1], "skipped": [line for line in lines if line.startswith("SKIPPED")]}


def tests_float32(sizes: Sizes) -> Result:
    """tests/gpu in float32: Triton's attention."""
    return _tests("float32", sizes)


def tests_bfloat16(sizes: Sizes) -> Result:
    """tests/gpu in bfloat16: FlashAttention; with it what does not depend on a dtype."""
    return _tests("bfloat16", sizes)


def tree_against_scheduler(sizes: Sizes) -> Result:
    """Scores outside the scheduler against those through it: values and speed."""
    questions, result = random_questions(sizes), {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), TINY if sizes.tiny else SMALL, weights=True)
        for dtype in ("bfloat16",) if sizes.tiny else ("bfloat16", "float32"):
            with opened_engine(checkpoint, sizes, dtype=dtype) as engine:

                def score(engine: Any = engine) -> list[ScoreResult]:
                    return [found for _, found in sorted(engine.score(questions), key=lambda pair: pair[0])]

                def cold(engine: Any = engine) -> list[ScoreResult]:
                    engine._release_cache()
                    engine._reset_prefix_cache()
                    return score()

                cold()  # kernels are compiled
                tree_s, tree = timed(cold)
                with scheduler_alone(engine):
                    cold()
                    scheduler_s, scheduled = timed(cold)
                result[dtype] = {
                    **engine_settings(engine),
                    "largest_difference": _difference(tree, scheduled),
                    "same_best_choice": sum(map(_same_best, tree, scheduled)),
                    "questions": len(questions),
                    "tree_s": round(tree_s, 3),
                    "scheduler_s": round(scheduler_s, 3),
                }
    limits = {"bfloat16": 0.5, "float32": 0.02}
    for dtype, found in result.items():
        if not found["largest_difference"] < limits[dtype]:
            raise RuntimeError(f"{dtype}: the two ways differ by {found['largest_difference']}")
    return result


def _difference(a: Sequence[ScoreResult], b: Sequence[ScoreResult]) -> float:
    return max(
        abs(x - y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one.logprobs, other.logprobs, strict=True)
    )


def _same_best(a: ScoreResult, b: ScoreResult) -> bool:
    return a.logprobs.index(max(a.logprobs)) == b.logprobs.index(max(b.logprobs))


def graphs_against_eager(sizes: Sizes) -> Result:
    """Tokens and log-probabilities of decode steps with graphs and without, compared bit by bit at each batch size."""
    result: Result = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), TINY if sizes.tiny else SMALL, weights=True)
        with opened_engine(checkpoint, sizes, slots=2) as engine:
            result |= engine_settings(engine)
            n = len(engine._path)
            for path in (tuple(range(n)), (*range(n - 1), *range(n - 3, n))):
                engine.set_layer_path(path)
                for batch in sizes.batches:
                    prompts = random_prompts(batch, sizes.prompt)
                    replayed = exact(engine, prompts, 8)
                    with eager(engine):
                        plain = exact(engine, prompts, 8)
                    result[f"{len(path)} layers, batch {batch}"] = {
                        "equal": replayed == plain,
                        "largest_difference": max(
                            abs(x - y)
                            for (_, a), (_, b) in zip(replayed, plain, strict=True)
                            for x, y in zip(a, b, strict=True)
                        ),
                        "texts_that_differ": sum(a[0] != b[0] for a, b in zip(replayed, plain, strict=True)),
                    }
    return result


def _steps(sizes: Sizes, dimensions: Result) -> Result:
    """Seconds of a decode step, by batch size: graphs, eager, and the many-path decoder on one path."""
    result: Result = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), dimensions, weights=False)
        begun = time.perf_counter()
        with opened_engine(checkpoint, sizes, slots=1, dummy=True) as engine:
            result |= {**engine_settings(engine), "start_s": round(time.perf_counter() - begun, 1)}
            path = engine._path
            for batch in sizes.batches:
                prompts = random_prompts(batch, sizes.prompt)
                ways: Result = {
                    "graphs" if engine.spec.execution is ExecutionMode.GRAPHS else "eager": _step_ms(
                        engine, prompts, sizes
                    )
                }
                if engine.spec.execution is ExecutionMode.GRAPHS:
                    with eager(engine):
                        ways["eager"] = _step_ms(engine, prompts, sizes)
                ways["many_paths"] = _many_paths_ms(engine, prompts, path, sizes)
                result[f"batch {batch}, ms"] = ways
    return result


def _step_ms(engine: Any, prompts: list[tuple[int, ...]], sizes: Sizes) -> float:
    exact(engine, prompts, 2)
    return _per_step_ms(functools.partial(exact, engine, prompts), sizes)


def _many_paths_ms(engine: Any, prompts: list[tuple[int, ...]], path: LayerPath, sizes: Sizes) -> float:
    def run(new: int) -> None:
        requests = [GenerateRequest(prompt=prompt, max_new_tokens=new) for prompt in prompts]
        list(engine.generate_paths(requests, [path]))

    run(2)
    return _per_step_ms(run, sizes)


def _per_step_ms(run: Callable[[int], Any], sizes: Sizes) -> float:
    """From the best of three times of few and of many new tokens, in turn: what both have in common falls out."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        for spent, new in zip(times, sizes.new, strict=True):
            spent.append(timed(functools.partial(run, new))[0])
    return round(1000 * (min(times[1]) - min(times[0])) / (sizes.new[1] - sizes.new[0]), 3)


def steps_135m(sizes: Sizes) -> Result:
    """Times of a decode step of a Llama of 135M parameters."""
    return _steps(sizes, TINY if sizes.tiny else SMALL)


def steps_8b(sizes: Sizes) -> Result:
    """Times of a decode step of a Llama of 8B parameters with random weights."""
    return _steps(sizes, TINY if sizes.tiny else LARGE)


def change_of_path(sizes: Sizes) -> Result:
    """Times of a change of path, of capturing its graphs, and of scanning several paths at once."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), TINY if sizes.tiny else SMALL, weights=True)
        with opened_engine(checkpoint, sizes, slots=4) as engine:
            n = len(engine._path)
            rng = random.Random(0)
            paths = [tuple(range(j)) + tuple(range(j - rng.randrange(1, 4), n)) for j in range(4, n + 1)]
            changes = []
            for number in range(sizes.changes):
                path = paths[number % len(paths)]
                changes.append(timed(functools.partial(engine.set_layer_path, path))[0])
            captures = {}
            for rows in sizes.batches:
                spent = []
                for number in range(3):
                    engine.set_layer_path(paths[number % len(paths)])
                    engine.set_layer_path(None)
                    spent.append(timed(functools.partial(engine._capture_graphs, rows))[0])
                captures[f"up to {rows} rows"] = round(statistics.median(spent), 3)
            written = [
                GenerateRequest(prompt=prompt, max_new_tokens=sizes.new[1])
                for prompt in random_prompts(16, sizes.prompt)
            ]
            scanned = [paths[number % len(paths)] for number in range(sizes.paths)]
            list(engine.generate_paths(written[:2], scanned[:1]))
            together, _ = timed(lambda: list(engine.generate_paths(written, scanned)))
            scored, _ = timed(lambda: list(engine.score_paths(random_questions(sizes)[:50], scanned)))
            return {
                **engine_settings(engine),
                "change_median_ms": round(1000 * statistics.median(changes), 3),
                "change_largest_ms": round(1000 * max(changes), 3),
                "capture_s": captures,
                "many_paths_written_s_per_path": round(together / len(scanned), 3),
                "many_paths_scored_s_per_path": round(scored / len(scanned), 3),
            }


def not_finite(sizes: Sizes) -> Result:
    """A path whose values are not finite, then a healthy one: the same answers as before it."""
    from safetensors.torch import load_file, save_file

    questions = random_questions(sizes)[:20]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), TINY if sizes.tiny else SMALL, weights=True)
        weights = load_file(checkpoint / "model.safetensors")
        weights["model.layers.2.mlp.down_proj.weight"].fill_(math.nan)
        save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
        with opened_engine(checkpoint, sizes) as engine:
            n = len(engine._path)
            healthy = tuple(layer for layer in range(n) if layer != 2)
            prompts = random_prompts(8 if not sizes.tiny else 2, sizes.prompt)

            def answers(path: LayerPath) -> Any:
                engine.set_layer_path(path)
                return sorted(engine.score(questions), key=lambda pair: pair[0]), exact(engine, prompts, 8)

            before = answers(healthy)
            broken = answers(tuple(range(n)))
            after = answers(healthy)
            finite = all(math.isfinite(value) for _, r in broken[0] for value in r.logprobs)
            result = {**engine_settings(engine), "broken_is_finite": finite, "equal_after": before == after}
    if finite or before != after:
        raise RuntimeError(str(result))
    return result


def kill(sizes: Sizes) -> Result:
    """Memory and processes after kill -9 of an engine's process, and the next engine's start."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "tests/gpu/test_kill.py",
    ]
    environment = {**os.environ}
    if sizes.tiny:
        environment["MERGEBOARD_GPU_TESTS_ON_CPU"] = "1"
        command += ["-k", "kill and 1"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = ended.stdout.strip().splitlines()
    if ended.returncode:
        raise RuntimeError("\n".join(lines[-40:]))
    return {"summary": lines[-1], "skipped": [line for line in lines if line.startswith("SKIPPED")]}


@dataclass(frozen=True)
class Step:
    """One step and its limit."""

    run: Callable[[Sizes], Result]
    limit_s: float

    @property
    def what(self) -> str:
        """First sentence of what it does."""
        return (self.run.__doc__ or "").splitlines()[0]


STEPS: dict[str, Step] = {
    "environment": Step(environment, 90),
    "tests-bfloat16": Step(tests_bfloat16, 150),
    "tests-float32": Step(tests_float32, 90),
    "tree-against-scheduler": Step(tree_against_scheduler, 75),
    "graphs-against-eager": Step(graphs_against_eager, 50),
    "steps-135m": Step(steps_135m, 50),
    "steps-8b": Step(steps_8b, 90),
    "change-of-path": Step(change_of_path, 45),
    "not-finite": Step(not_finite, 40),
    "kill": Step(kill, 40),
}
"""In the order in which they run: what decides most comes first. The limits add up to 720 s."""


def run_step(name: str, sizes: Sizes) -> Result:
    """The result of one step; whatever is wrong raises."""
    return STEPS[name].run(sizes)
