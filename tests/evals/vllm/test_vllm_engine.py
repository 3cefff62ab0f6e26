"""The vLLM engine against stock lm-eval on the same engine, against transformers, and against built checkpoints."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from evals.engine import EngineKind, EngineTuning, GenerateRequest, ScoreResult
from evals.errors import EngineError
from evals.vllm.engine import VllmEngine
from tests.support.engine_requests import (
    LAYERS,
    PATHS,
    TOLERANCE,
    check_wanted,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.stock_vllm import stock, stock_scores
from tests.support.tiny_checkpoints import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint

pytestmark = pytest.mark.vllm

KIND = EngineKind.VLLM
REQUESTS = random_requests(0, vocabulary=VOCABULARY)
TUNING = EngineTuning(threads=1, extra_layer_slots=LAYERS, kv_cache_gib=0.125)


@pytest.fixture(scope="module", params=DENSE_FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp(request.param), family=request.param, layers=LAYERS)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[VllmEngine]:
    with opened(KIND, checkpoint, TUNING) as engine:
        assert isinstance(engine, VllmEngine)
        yield engine


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Iterator[Any]:
    with opened(EngineKind.TRANSFORMERS, checkpoint) as engine:
        yield engine


def greedy(results: list[ScoreResult]) -> list[tuple[bool, ...]]:
    return [result.is_greedy for result in results]


def test_scores_are_those_of_stock_lm_eval_and_of_transformers(engine: VllmEngine, reference: Any) -> None:
    expected = stock_scores(engine, REQUESTS)
    for other in (expected, scored(reference, REQUESTS)):
        ours = scored(engine, REQUESTS)
        assert largest_difference(ours, other) < TOLERANCE
        assert greedy(ours) == greedy(other)


def test_the_schedulers_way_gives_the_same_scores(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scored(engine, REQUESTS)
    monkeypatch.setattr(engine, "_unscheduled", None)  # as on a machine where the other way is not written
    for layers in (None, PATHS[2]):
        engine.set_layer_path(layers)
        ours = scored(engine, REQUESTS)
        assert largest_difference(ours, stock_scores(engine, REQUESTS)) < TOLERANCE
        assert layers or largest_difference(ours, expected) < TOLERANCE
    by_path = {(path, index): r for path, index, r in engine.score_paths(REQUESTS, PATHS[2:3])}
    assert largest_difference([by_path[0, i] for i in range(len(REQUESTS))], ours) < 1e-4
    engine.set_layer_path(None)


def as_hf_writes(text: str) -> str:
    """A text of lm-eval's vllm model without special tokens, and without a cut character at its end."""
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        text = text.replace(special, "")
    return text.rstrip("\ufffd")


def test_texts_are_those_of_stock_lm_eval(engine: VllmEngine) -> None:
    """But for special tokens and a character that the text's end cuts, which we write as lm-eval's `hf` model does."""
    from lm_eval.api.instance import Instance

    model = stock(engine)
    texts = ["The capital of France", "Question: Which of these is true?", "0 1 2 3 4", "(A), (B), "]
    for stops in ((), ("e",), ("\n\n", " t", "qu")):
        kwargs = {"until": list(stops), "max_gen_toks": 24, "do_sample": False}
        asked = [
            Instance(request_type="generate_until", doc={}, arguments=(text, dict(kwargs)), idx=i)
            for i, text in enumerate(texts)
        ]
        ours = [
            GenerateRequest(prompt=tuple(model.tok_encode(t)), max_new_tokens=24, stop=stops) for t in texts
        ]
        expected = model.generate_until(asked, disable_tqdm=True)
        results = generated(engine, ours)
        assert [result.text.rstrip("\ufffd") for result in results] == [as_hf_writes(t) for t in expected]
        paths = {index: result for _, index, result in engine.generate_paths(ours, [tuple(range(LAYERS))])}
        assert [paths[i] for i in range(len(ours))] == results


def test_live_paths_are_those_of_transformers(engine: VllmEngine, reference: Any) -> None:
    prompts = prompts_of(REQUESTS)
    before = scored(engine, REQUESTS), generated(engine, prompts)
    scores = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, PATHS)}
    texts = {(p, i): r for p, i, r in engine.generate_paths(prompts, PATHS)}
    assert len(scores) == len(texts) == len(PATHS) * len(REQUESTS)
    for number, layers in enumerate(PATHS):
        engine.set_layer_path(layers)
        reference.set_layer_path(layers)
        together = [scores[number, i] for i in range(len(REQUESTS))]
        expected = scored(reference, REQUESTS)
        for ours in (together, scored(engine, REQUESTS)):
            assert largest_difference(ours, expected) < TOLERANCE
            assert greedy(ours) == greedy(expected)
        for ours_texts in ([texts[number, i] for i in range(len(prompts))], generated(engine, prompts)):
            assert [r.n_tokens for r in ours_texts] == [r.n_tokens for r in generated(reference, prompts)]
            assert ours_texts == [texts[number, i] for i in range(len(prompts))]
    engine.set_layer_path(None)
    reference.set_layer_path(None)
    assert (scored(engine, REQUESTS), generated(engine, prompts)) == before


def test_a_thousand_switches_are_quick_and_leak_nothing(engine: VllmEngine) -> None:
    process = psutil.Process(os.getpid())

    def switch(times: int) -> list[float]:
        spent = []
        for number in range(times):
            begin = time.perf_counter()
            engine.set_layer_path(PATHS[number % len(PATHS)])
            spent.append(time.perf_counter() - begin)
            if number % 100 == 0:
                scored(engine, REQUESTS)
        gc.collect()
        return spent

    switch(100)
    before = process.memory_info().rss
    spent = switch(1000)
    assert process.memory_info().rss - before < 8 << 20
    assert statistics.median(spent) < 0.02
    engine.set_layer_path(None)


def test_paths_beyond_the_slots_are_refused(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match=f"extra_layer_slots={LAYERS + 1}"):
        engine.set_layer_path((0,) * (2 * LAYERS + 1))
    with pytest.raises(EngineError, match=f"layer {LAYERS}"):
        list(engine.score_paths(REQUESTS, [(LAYERS,)]))
    assert len(list(engine.score_paths(REQUESTS[:2], [(0,) * (2 * LAYERS + 1)]))) == 2


def test_what_is_not_wanted_gets_no_answer(engine: VllmEngine) -> None:
    check_wanted(engine, REQUESTS)


def test_unread_results_are_no_trap(engine: VllmEngine) -> None:
    some = engine.generate(prompts_of(REQUESTS))
    next(some)
    with pytest.raises(EngineError, match="in flight"):
        engine.set_layer_path(PATHS[1])
    some.close()
    engine.set_layer_path(None)
    stale = engine.score(
        [r for _ in range(40) for r in random_requests(7, vocabulary=VOCABULARY, longest=200)]
    )
    next(stale)
    engine.set_layer_path(PATHS[1])
    with pytest.raises(EngineError, match="something else"):
        list(stale)
    engine.set_layer_path(None)


def test_memory_is_told(engine: VllmEngine) -> None:
    memory = engine.memory
    stored = sum(file.stat().st_size for file in engine.checkpoint.glob("*.safetensors"))
    assert memory.weight_bytes == pytest.approx(2 * stored, rel=0.1)
    assert memory.layer_slots == 2 * LAYERS
    assert memory.kv_cache_bytes == pytest.approx(TUNING.kv_cache_gib * 2**30, rel=0.05)  # type: ignore[operator]  # set above
    assert memory.kv_cache_bytes == memory.kv_cache_tokens * 2 * 12 * 32 * 4  # type: ignore[operator]  # vLLM's are never null


def test_a_process_has_one_engine_at_a_time(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match="close it first"), opened(KIND, engine.checkpoint, TUNING):
        pass
