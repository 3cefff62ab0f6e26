"""Partial and damped visits in vLLM in further families, against the transformers engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineTuning
from evals.errors import UnsupportedArchitecture
from recipes.layer_path import LayerPath
from tests.support.engine_requests import TOLERANCE, largest_difference, opened, random_requests, scored
from tests.support.family_checkpoints import family_checkpoint, layers_of
from tests.support.tiny_checkpoints import VOCABULARY

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

REQUESTS = random_requests(1, vocabulary=VOCABULARY, count=6, longest=60)


@pytest.mark.parametrize("model_type", ["gemma2", "mixtral", "stablelm", "cohere"])
def test_other_families_agree_with_transformers_or_refuse(model_type: str, tmp_path: Path) -> None:
    """Norms after the halves and windows, experts, a stale residual; Cohere's residual is no part of its stream in vLLM."""
    checkpoint = family_checkpoint(tmp_path, model_type)
    n = layers_of(checkpoint)
    texts = [
        "(1, 3):attention",
        "(1, 3):mlp",
        "(1, 3):damped=0.5",
        "layers:0-2,1:mlp:damped=0.5,1:attention,2-",
    ]
    paths = [LayerPath.parse(text, n).layers for text in texts]
    with opened(EngineKind.TRANSFORMERS, checkpoint, EngineTuning(threads=1, live=True)) as reference:
        expected = []
        for path in paths:
            reference.set_layer_path(path)
            expected.append(scored(reference, REQUESTS))
    with opened(
        EngineKind.VLLM, checkpoint, EngineTuning(threads=1, extra_layer_slots=n, kv_cache_gib=0.125)
    ) as live:
        for path, results in zip(paths, expected, strict=True):
            if model_type == "cohere":
                with pytest.raises(UnsupportedArchitecture, match="visit its layers whole"):
                    live.set_layer_path(path)
                continue
            live.set_layer_path(path)
            assert largest_difference(scored(live, REQUESTS), results) < TOLERANCE, path
        together = {
            (p, i): r for p, i, r in live.score_paths(REQUESTS, [] if model_type == "cohere" else paths)
        }
        for (number, index), result in together.items():
            assert largest_difference([result], [expected[number][index]]) < TOLERANCE
