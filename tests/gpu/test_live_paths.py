"""Live layer paths on a GPU: vLLM's scheduler with layer slots against transformers, and against the path that was built."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineTuning
from recipes.relayer import write_layer_path
from tests.evals.engine_requests import (
    LAYERS,
    PATHS,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.tiny import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.vllm]

REQUESTS = random_requests(0, vocabulary=VOCABULARY)
TOLERANCE = 1e-2
"""Kernels of several libraries, tensor cores among them, even in float32."""
SLOTS = EngineTuning(extra_layer_slots=LAYERS, gpu_memory_share=0.3)


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_vllm_agrees_with_transformers(family: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, family=family, layers=LAYERS, dtype="float32")
    prompts = prompts_of(REQUESTS)
    with opened(EngineKind.VLLM, checkpoint, SLOTS, max_length=512) as engine:
        scores = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, PATHS)}
        texts = {(p, i): r for p, i, r in engine.generate_paths(prompts, PATHS)}
    same = 0
    with opened(EngineKind.TRANSFORMERS, checkpoint, max_length=512) as reference:
        for number, layers in enumerate(PATHS):
            reference.set_layer_path(layers)
            mine = [scores[number, i] for i in range(len(REQUESTS))]
            assert largest_difference(mine, scored(reference, REQUESTS)) < TOLERANCE
            expected = generated(reference, prompts)
            same += sum(texts[number, i] == expected[i] for i in range(len(prompts)))
    assert same > 0.9 * len(PATHS) * len(prompts)


def test_a_built_path_is_the_live_one(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "base", layers=LAYERS, dtype="float32")
    write_layer_path(checkpoint, PATHS[3], tmp_path / "built")
    with opened(
        EngineKind.VLLM, tmp_path / "built", EngineTuning(gpu_memory_share=0.3), max_length=512
    ) as built:
        expected = scored(built, REQUESTS)
    with opened(EngineKind.VLLM, checkpoint, SLOTS, max_length=512) as engine:
        engine.set_layer_path(PATHS[3])
        assert largest_difference(scored(engine, REQUESTS), expected) < TOLERANCE


def test_switching_is_quick_and_leaks_nothing(tmp_path: Path) -> None:
    import torch

    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS)
    with opened(EngineKind.VLLM, checkpoint, SLOTS, max_length=512, dtype="bfloat16") as engine:

        def switch(times: int) -> list[float]:
            spent = []
            for number in range(times):
                begun = time.perf_counter()
                engine.set_layer_path(PATHS[number % len(PATHS)])
                spent.append(time.perf_counter() - begun)
            scored(engine, REQUESTS)
            return spent

        switch(8)
        before = torch.cuda.mem_get_info()[0]
        spent = switch(1000)
        assert before - torch.cuda.mem_get_info()[0] < 8 << 20
        assert statistics.median(spent) < 0.02
