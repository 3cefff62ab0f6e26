"""A checkpoint that was written for a layer path, loaded on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.engine import EngineKind
from recipes.layer_path import LayerPath
from recipes.relayer import write_layer_path
from tests.gpu.ways import DTYPES, PRECISIONS, tuning
from tests.support.engine_requests import LAYERS, largest_difference, opened, random_requests, scored
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

pytestmark = pytest.mark.gpu

REQUESTS = random_requests(0, vocabulary=VOCABULARY)


@pytest.mark.vllm
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_vllm_and_transformers_read_it_alike(family: str, dtype: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "base", family=family, layers=LAYERS)
    layers = LayerPath.parse("blocks:1,3;2,5", LAYERS).layers
    write_layer_path(checkpoint, layers, tmp_path / "built")
    with opened(EngineKind.TRANSFORMERS, tmp_path / "built", max_length=512) as reference:
        expected = scored(reference, REQUESTS)
    with opened(EngineKind.VLLM, tmp_path / "built", tuning(), max_length=512, dtype=dtype) as engine:
        assert largest_difference(scored(engine, REQUESTS), expected) < PRECISIONS[dtype].tolerance
