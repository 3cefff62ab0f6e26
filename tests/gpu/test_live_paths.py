"""Live layer paths on a GPU, in every way that an engine computes them, against transformers and against the built path."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evals.engine import EngineKind, ExecutionMode
from recipes.relayer import write_layer_path
from tests.gpu.ways import (
    DTYPES,
    PRECISIONS,
    Reference,
    allocated_bytes,
    differing_by_near_ties,
    eager,
    exact,
    graphs_of,
    has_gpu,
    scheduler_alone,
    tuning,
)
from tests.support.engine_requests import (
    LAYERS,
    PATHS,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.tiny_checkpoints import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.vllm]

REQUESTS = random_requests(0, vocabulary=VOCABULARY)
PROMPTS = prompts_of(REQUESTS)
CHANGED = (PATHS[0], PATHS[1], PATHS[7])
"""Paths that are run one at a time as well."""
CASES = [
    (family, dtype)
    for family in DENSE_FAMILIES
    for dtype in DTYPES
    if dtype == "bfloat16" or family in ("llama", "qwen3")
]
"""Kernels depend on the dtype and not on the family: all families in one, two in the other."""


@pytest.mark.parametrize(("family", "dtype"), CASES)
def test_every_way_agrees_with_transformers(family: str, dtype: str, tmp_path: Path) -> None:
    precision = PRECISIONS[dtype]
    checkpoint = tiny_checkpoint(tmp_path, family=family, layers=LAYERS, dtype="bfloat16")
    with opened(EngineKind.VLLM, checkpoint, tuning(LAYERS), max_length=512, dtype=dtype) as engine:
        if has_gpu():
            assert (engine.spec.attention_backend, engine.spec.execution) == (
                precision.backend,
                ExecutionMode.GRAPHS,
            )
        scores = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, PATHS)}
        texts = {(p, i): r for p, i, r in engine.generate_paths(PROMPTS, PATHS)}
        one_by_one = []
        for path in CHANGED:
            engine.set_layer_path(path)
            tree = scored(engine, REQUESTS)
            assert graphs_of(engine) == 0, "scoring captures nothing"
            with scheduler_alone(engine):
                one_by_one.append((tree, scored(engine, REQUESTS), generated(engine, PROMPTS)))
            assert (graphs_of(engine) > 0) is (engine.spec.execution is ExecutionMode.GRAPHS)
    ties = 0
    plain = Reference(checkpoint)
    with opened(EngineKind.TRANSFORMERS, checkpoint, max_length=512) as reference:
        for number, path in enumerate(PATHS):
            reference.set_layer_path(path)
            expected, known = scored(reference, REQUESTS), generated(reference, PROMPTS)
            ours = [scores[number, i] for i in range(len(REQUESTS))]
            assert largest_difference(ours, expected) < precision.tolerance
            written = [texts[number, i] for i in range(len(PROMPTS))]
            ties += differing_by_near_ties(plain, path, PROMPTS, written, known, precision.near_tie)
            if path in CHANGED:
                tree, scheduled, one = one_by_one[CHANGED.index(path)]
                assert largest_difference(tree, expected) < precision.tolerance
                assert largest_difference(scheduled, expected) < precision.tolerance
                ties += differing_by_near_ties(plain, path, PROMPTS, one, known, precision.near_tie)
    print(
        f"{family} {dtype}: {ties} of {(len(PATHS) + len(CHANGED)) * len(PROMPTS)} texts differ by near-ties"
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_graphs_and_eager_are_equal_bit_by_bit(dtype: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS, hidden=256)
    # Of a size that is captured, so that no row is padding: other row counts may mean other kernels for matrix products.
    prompts = [request.prompt for request in PROMPTS][:8]
    with opened(EngineKind.VLLM, checkpoint, tuning(LAYERS), max_length=512, dtype=dtype) as engine:
        for path in CHANGED:
            engine.set_layer_path(path)
            replayed = exact(engine, prompts, 24)
            with eager(engine):
                assert exact(engine, prompts, 24) == replayed
        engine.set_layer_path(CHANGED[0])
        assert graphs_of(engine) == 0, "a change of path drops the graphs"
        scored(engine, REQUESTS)
        assert graphs_of(engine) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_built_path_is_the_live_one(dtype: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "base", layers=LAYERS)
    write_layer_path(checkpoint, PATHS[3], tmp_path / "built")
    prompts = [request.prompt for request in PROMPTS][:8]
    with opened(EngineKind.VLLM, tmp_path / "built", tuning(), max_length=512, dtype=dtype) as built:
        expected, modes = exact(built, prompts, 8), (built.spec.execution, built.spec.attention_backend)
    with opened(EngineKind.VLLM, checkpoint, tuning(LAYERS), max_length=512, dtype=dtype) as engine:
        assert (engine.spec.execution, engine.spec.attention_backend) == modes
        engine.set_layer_path(PATHS[3])
        # Same mode, same kernels, same batches: not a bit differs.
        assert exact(engine, prompts, 8) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_path_that_is_not_finite_spoils_no_other(dtype: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS, dtype="float32")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.3.mlp.down_proj.weight"].fill(np.nan)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    sound, broken = (0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5)
    with opened(EngineKind.VLLM, checkpoint, tuning(LAYERS), max_length=512, dtype=dtype) as engine:
        engine.set_layer_path(sound)
        expected = scored(engine, REQUESTS), generated(engine, PROMPTS)
        assert all(math.isfinite(value) for result in expected[0] for value in result.logprobs)
        for spoil in (
            lambda: scored(engine, REQUESTS),
            lambda: generated(engine, PROMPTS),
            lambda: list(engine.score_paths(REQUESTS, [broken])),
            lambda: list(engine.generate_paths(PROMPTS, [broken, sound])),
        ):
            engine.set_layer_path(broken)
            spoil()
            engine.set_layer_path(sound)
            assert (scored(engine, REQUESTS), generated(engine, PROMPTS)) == expected


def test_switching_leaks_nothing(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS)
    unopened = allocated_bytes()
    with opened(EngineKind.VLLM, checkpoint, tuning(LAYERS), max_length=512, dtype="bfloat16") as engine:

        def switch(times: int) -> list[float]:
            spent = []
            for number in range(times):
                begun = time.perf_counter()
                engine.set_layer_path(PATHS[number % len(PATHS)])
                spent.append(time.perf_counter() - begun)
            scored(engine, REQUESTS)
            return spent

        def generate_on(paths: int) -> None:
            for number in range(paths):
                engine.set_layer_path(PATHS[number])
                generated(engine, PROMPTS[:4])
            engine.set_layer_path(None)

        switch(8)
        generate_on(2)
        # Bytes of live tensors: the device's free memory moves in the allocator's segments of 20 MiB, and with other processes.
        before = allocated_bytes()
        spent = switch(1000)
        generate_on(8)
        grown = allocated_bytes() - before
        print(f"median of 1000 changes of path: {1000 * statistics.median(spent):.2f} ms; {grown} bytes more")
        # A graph's tensors are in its pool, so that one which was not released would show.
        assert grown < (1 << 20 if has_gpu() else 64 << 20)
    if has_gpu():
        assert allocated_bytes() - unopened < 64 << 20, "closing leaves weights, KV caches or graphs behind"
