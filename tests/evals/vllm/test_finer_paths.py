"""Partial and damped visits in the vLLM engine against plain torch: the scheduler, the tree scorer and the many-path decoder."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import psutil
import pytest

from evals.engine import EngineKind, EngineTuning
from evals.errors import EngineError
from evals.vllm.engine import VllmEngine
from recipes.layer_path import LayerPath
from tests.support.engine_requests import (
    LAYERS,
    generated,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.finer_paths import FINER_PATHS, check_against_plain_torch
from tests.support.plain_decoder import PlainDecoder
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

REQUESTS = random_requests(1, vocabulary=VOCABULARY, count=6, longest=60)
EXTRA = 4
"""Fewer than some paths add, but as many as visits with attention need."""


@pytest.fixture(scope="module", params=["llama", "qwen3", "phi3"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    checkpoint = tiny_checkpoint(
        tmp_path_factory.mktemp(request.param), family=request.param, layers=LAYERS, dtype="float32"
    )
    tuning = EngineTuning(threads=1, extra_layer_slots=EXTRA, kv_cache_gib=0.125)
    with opened(EngineKind.VLLM, checkpoint, tuning) as engine:
        assert isinstance(engine, VllmEngine)
        yield engine


def test_every_kind_of_visit_agrees_with_plain_torch(engine: VllmEngine) -> None:
    check_against_plain_torch(engine, PlainDecoder(engine.checkpoint), REQUESTS, FINER_PATHS, 1e-4)


def test_the_schedulers_passes_agree_as_well(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine, "_unscheduled", None
    )  # as on a machine where the other passes are not supported
    plain = PlainDecoder(engine.checkpoint)
    check_against_plain_torch(engine, plain, REQUESTS[:3], FINER_PATHS, 1e-4)


def test_factor_0_changes_nothing_and_factor_1_is_the_plain_repeat(engine: VllmEngine) -> None:
    prompts = prompts_of(REQUESTS)

    def answers(text: str) -> tuple[object, object]:
        engine.set_layer_path(LayerPath.parse(text, LAYERS).layers)
        return scored(engine, REQUESTS), generated(engine, prompts)

    assert answers("(2, 4):damped=0") == answers("baseline")
    assert answers("(2, 4):damped=1") == answers("(2, 4)")
    engine.set_layer_path(None)


def test_only_visits_with_attention_need_a_slot(engine: VllmEngine) -> None:
    engine.set_layer_path(LayerPath.parse("(0, 6):mlp", LAYERS).layers)
    with pytest.raises(EngineError, match="extra_layer_slots=6"):
        engine.set_layer_path(LayerPath.parse("(0, 6):attention", LAYERS).layers)
    engine.set_layer_path(None)


def test_a_thousand_changes_leak_nothing(engine: VllmEngine) -> None:
    process = psutil.Process(os.getpid())

    def change(times: range) -> None:
        for number in times:
            factor = f"damped=0.{number + 1:04d}"
            texts = (f"(2, 4):{factor}", f"(1, 3):attention:{factor}", f"(0, 6):mlp:{factor}")
            path = LayerPath.parse(texts[number % 3], LAYERS).layers
            engine.set_layer_path(path)
            if number % 50 == 0:
                scored(engine, REQUESTS)
                list(engine.score_paths(REQUESTS[:2], [path]))
        gc.collect()

    change(range(100))
    before = process.memory_info().rss
    change(range(100, 1100))
    assert process.memory_info().rss - before < 8 << 20
    engine.set_layer_path(None)
