"""Partial and damped visits in the transformers engine against plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.engine import EngineKind, PathEngine
from evals.errors import EngineError
from recipes.layer_path import LayerPath
from tests.support.engine_requests import (
    LAYERS,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.finer_paths import FINER_PATHS, check_against_plain_torch
from tests.support.plain_decoder import PlainDecoder
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

REQUESTS = random_requests(1, vocabulary=VOCABULARY, count=2, longest=40)


@pytest.fixture(scope="module", params=["llama", "qwen3", "phi3"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PathEngine]:
    checkpoint = tiny_checkpoint(
        tmp_path_factory.mktemp(request.param), family=request.param, layers=LAYERS, dtype="float32"
    )
    with opened(EngineKind.TRANSFORMERS, checkpoint) as engine:
        yield engine


def test_every_kind_of_visit_agrees_with_plain_torch(engine: PathEngine) -> None:
    check_against_plain_torch(engine, PlainDecoder(engine.checkpoint), REQUESTS, FINER_PATHS, 1e-4)


def test_factor_0_changes_nothing_and_factor_1_is_the_plain_repeat(engine: PathEngine) -> None:
    prompts = prompts_of(REQUESTS)

    def answers(text: str) -> tuple[object, object]:
        engine.set_layer_path(LayerPath.parse(text, LAYERS).layers)
        return scored(engine, REQUESTS), generated(engine, prompts)

    assert answers("(1, 5):damped=0") == answers("baseline")
    assert answers("(1, 5):damped=1") == answers("(1, 5)")
    # The factors between come close to both ends without a jump.
    for text, end in (("(1, 5):damped=0.000001", "baseline"), ("(1, 5):damped=0.999999", "(1, 5)")):
        engine.set_layer_path(LayerPath.parse(text, LAYERS).layers)
        near = scored(engine, REQUESTS)
        engine.set_layer_path(LayerPath.parse(end, LAYERS).layers)
        assert largest_difference(near, scored(engine, REQUESTS)) < 1e-3
    engine.set_layer_path(None)


def test_a_path_that_changes_nothing_is_refused(engine: PathEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="empty"):
        engine.set_layer_path(LayerPath.parse("layers:0-6:damped=0", LAYERS).layers)
