"""Built layer paths that share a vLLM engine: the weights of one loaded into the engine of another, family by family."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from evals.checkpoint_config import read_config
from evals.engine import EngineKind, EngineTuning
from evals.errors import EngineError
from recipes.built_form import BuiltForms
from recipes.checkpoint import Checkpoint
from recipes.layer_path import LayerPath
from recipes.relayer import write_layer_path
from tests.support.engine_answers import answers_of
from tests.support.engine_requests import generated, opened, prompts_of, random_requests, scored
from tests.support.family_checkpoints import FAMILIES, family_checkpoint, layers_of
from tests.support.replaced_weights import FileWeights
from tests.support.tiny_checkpoints import VOCABULARY

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

REQUESTS = random_requests(4, vocabulary=VOCABULARY, count=6, longest=60)
TUNING = EngineTuning(threads=1, kv_cache_gib=0.125)


def pair_of(checkpoint: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two paths with one more layer than the checkpoint, of one form, with other layers in several places."""
    names = [tensor.name for tensor in Checkpoint.open(checkpoint).tensors]
    forms = BuiltForms(read_config(checkpoint), names, str(checkpoint))
    layers, rng = layers_of(checkpoint), random.Random(0)
    first = (*range(layers), layers - 1)
    form = forms.of(LayerPath.parse(list(first), layers))
    for _ in range(500):
        other = tuple(layer if rng.random() < 0.5 else rng.randrange(layers) for layer in first)
        if sum(a != b for a, b in zip(first, other, strict=True)) > 1 and (
            forms.of(LayerPath.parse(list(other), layers)) == form
        ):
            return first, other
    raise AssertionError(f"{checkpoint} has no two paths of one form")


REFUSED = {"gpt_oss": "did not replace the weights of model.layers.0"}
"""Families whose loader in vLLM writes weights past the reload."""


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - REFUSED.keys()))
def test_loaded_weights_are_those_of_an_engine_of_their_own(family: str, tmp_path: Path) -> None:
    """Scores and texts of a built path, loaded into the engine of another, and of the engine's own path after it."""
    checkpoint = family_checkpoint(tmp_path / "source", family)
    first, other = pair_of(checkpoint)
    for name, path in (("first", first), ("other", other)):
        write_layer_path(checkpoint, path, tmp_path / name)
    prompts = prompts_of(REQUESTS[:3])
    with opened(EngineKind.VLLM, tmp_path / "first", TUNING) as engine:
        own = scored(engine, REQUESTS), generated(engine, prompts)
        engine.load_weights(FileWeights(tmp_path / "other"))
        loaded = scored(engine, REQUESTS), generated(engine, prompts)
        engine.load_weights(None)
        assert (scored(engine, REQUESTS), generated(engine, prompts)) == own
    assert loaded == answers_of(tmp_path / "other", REQUESTS, prompts)
    assert loaded != own


@pytest.mark.parametrize("family", REFUSED)
def test_weights_that_vllm_does_not_replace_are_an_error(family: str, tmp_path: Path) -> None:
    """Nothing is answered with some weights of one path and some of another."""
    checkpoint = family_checkpoint(tmp_path / "source", family)
    with opened(EngineKind.VLLM, checkpoint, TUNING) as engine:
        with pytest.raises(EngineError, match=REFUSED[family]):
            engine.load_weights(FileWeights(checkpoint))
        with pytest.raises(EngineError, match="weights of two sources"):
            scored(engine, REQUESTS)
