"""Starting and ending vLLM engines in one process, and what they serve besides live paths."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from evals.engine import EngineKind, EngineTuning, GenerateRequest, ScoreRequest
from evals.errors import EngineError
from evals.vllm.engine import VllmEngine
from recipes.relayer import write_layer_path
from tests.support.engine_requests import (
    LAYERS,
    PATHS,
    TOLERANCE,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.stock_vllm import stock_scores
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

pytestmark = pytest.mark.vllm

KIND = EngineKind.VLLM
REQUESTS = random_requests(0, vocabulary=VOCABULARY)
TUNING = EngineTuning(threads=1, extra_layer_slots=LAYERS, kv_cache_gib=0.125)


def test_a_built_path_is_the_live_one(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "base", layers=LAYERS)
    write_layer_path(checkpoint, PATHS[1], tmp_path / "built")
    with opened(KIND, tmp_path / "built", TUNING) as other:
        expected = scored(other, REQUESTS), generated(other, prompts_of(REQUESTS))
    with opened(KIND, checkpoint, TUNING) as engine:
        engine.set_layer_path(PATHS[1])
        assert largest_difference(scored(engine, REQUESTS), expected[0]) < 1e-5
        assert generated(engine, prompts_of(REQUESTS)) == expected[1]


def test_truncation_is_that_of_stock_lm_eval_and_closing_frees_the_process(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with opened(KIND, checkpoint, TUNING, max_length=40) as engine:
        assert isinstance(engine, VllmEngine)
        assert engine.max_length == 40
        assert largest_difference(scored(engine, REQUESTS), stock_scores(engine, REQUESTS)) < TOLERANCE
        with pytest.raises(EngineError, match="max_length"):
            scored(engine, [ScoreRequest(context=(3,), continuations=((4,) * 40,))])
        with pytest.raises(EngineError, match="no room"):
            generated(engine, [GenerateRequest(prompt=(3,), max_new_tokens=40)])
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_closing_lets_go_of_weights_and_kv_caches(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS)
    with opened(KIND, checkpoint, TUNING) as engine:
        assert isinstance(engine, VllmEngine)
        engine.set_layer_path(PATHS[2])
        scored(engine, REQUESTS)
        slots = engine._llm.collective_rpc(lambda worker: worker.layer_slots)[0]
        held = [weakref.ref(slot) for slot in (*slots.holders, *slots.sources)]
        caches = [weakref.ref(slot.kv_cache) for slot in slots.holders]
        del slots
    gc.collect()
    assert len(held) == 3 * LAYERS
    assert not [reference for reference in (*held, *caches) if reference() is not None]


def test_a_path_that_is_not_finite_spoils_no_other(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS, dtype="float32")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.3.mlp.down_proj.weight"].fill(np.nan)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    sound, broken = (0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5)
    prompts = prompts_of(REQUESTS)
    with opened(KIND, checkpoint, TUNING) as engine:
        engine.set_layer_path(sound)
        expected = scored(engine, REQUESTS), generated(engine, prompts)
        for spoil in (
            lambda: scored(engine, REQUESTS),
            lambda: generated(engine, prompts),
            lambda: list(engine.score_paths(REQUESTS, [broken])),
            lambda: list(engine.generate_paths(prompts, [broken, sound])),
        ):
            engine.set_layer_path(broken)
            spoil()
            engine.set_layer_path(sound)
            assert (scored(engine, REQUESTS), generated(engine, prompts)) == expected
        # More than fit into one group, the broken ones first.
        many = [*[broken] * 24, sound]
        texts = {(p, i): r for p, i, r in engine.generate_paths(prompts, many)}
        assert [texts[len(many) - 1, i] for i in range(len(prompts))] == expected[1]
        scores = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, many)}
        assert [scores[len(many) - 1, i] for i in range(len(REQUESTS))] == expected[0]


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    """A KV cache in which no sequence fits."""
    checkpoint = tiny_checkpoint(tmp_path, dtype="float32")
    tuning = TUNING.model_copy(update={"kv_cache_gib": 0.0001})
    with (
        pytest.raises(EngineError, match=r"vLLM does not start on .*(?s:.)*The end of its log"),
        opened(KIND, checkpoint, tuning),
    ):
        pass
