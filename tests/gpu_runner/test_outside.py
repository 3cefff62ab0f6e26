"""Passes outside the scheduler on the GPU's runner with Triton's attention, which is what float32 runs on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.engine import EngineKind, EngineTuning, GenerateResult, ScoreResult
from tests.gpu.ways import same_answer
from tests.gpu_runner.v2 import Runner, call
from tests.support.engine_requests import (
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.gpu_runner, pytest.mark.vllm, pytest.mark.slow]

LAYERS = 3
PATHS = ((0, 1, 2), (0, 1, 1, 1, 2), (2, 0))
REQUESTS = random_requests(3, vocabulary=VOCABULARY, count=5, longest=40)
PROMPTS = prompts_of(REQUESTS, new=3)
BLOCK = 16
"""Tokens of a block on a GPU."""


def answer(
    checkpoint: Path,
) -> tuple[
    str, int, dict[tuple[int, int], ScoreResult], list[ScoreResult], dict[tuple[int, int], GenerateResult]
]:
    """Backend, size of a block as the kernels see it, and all answers; one path's scores with a second half that finds the first
    half's last context in the cache."""
    from tests.gpu_runner import graph_recorder

    graph_recorder.install()
    tuning = EngineTuning(threads=2, extra_layer_slots=LAYERS, kv_cache_gib=0.05, block_size=BLOCK)
    with opened(EngineKind.VLLM, checkpoint, tuning, max_length=128) as opened_engine:
        engine: Any = opened_engine
        scores = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, PATHS)}
        texts = {(p, i): r for p, i, r in engine.generate_paths(PROMPTS, PATHS)}
        engine.set_layer_path(PATHS[1])
        one = scored(engine, REQUESTS[:3]) + scored(engine, REQUESTS[3:])
        return engine.spec.attention_backend, engine._unscheduled.limits.block_size, scores, one, texts


def test_tree_scores_and_many_paths_agree_with_transformers(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS, dtype="float32")
    backend, block, scores, one, texts = call(answer, checkpoint, runner=Runner(async_scheduling=True))
    assert (backend, block) == ("TRITON_ATTN", BLOCK)
    with opened(EngineKind.TRANSFORMERS, checkpoint, max_length=128) as reference:
        for number, path in enumerate(PATHS):
            reference.set_layer_path(path)
            expected = scored(reference, REQUESTS)
            assert largest_difference([scores[number, i] for i in range(len(REQUESTS))], expected) < 1e-4
            for i, known in enumerate(generated(reference, PROMPTS)):
                assert same_answer(texts[number, i], known)
            if number == 1:
                assert largest_difference(one, expected) < 1e-4
