"""Weights replaced in a loaded transformers model: those of the built artifact, bit for bit, or none at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evals.engine import EngineKind
from evals.errors import EngineError
from evals.transformers.engine import TransformersEngine
from evals.weights import StreamedWeights
from recipes.merge import BuildOptions, MergedWeights, MergekitProcess, build
from recipes.recipe import METHODS, Recipe
from tests.support.engine_requests import generated, opened, prompts_of, random_requests, scored
from tests.support.merge_recipes import GRADIENT, SOURCES, STACKED, STAGES, method_recipe, sources_in
from tests.support.replaced_weights import FileWeights, bits, sources_of_family
from tests.support.tiny_checkpoints import VOCABULARY

KIND = EngineKind.TRANSFORMERS
REQUESTS = random_requests(3, vocabulary=VOCABULARY, count=5)
RECIPES = {name: method_recipe(name) if name != "passthrough" else STACKED for name in METHODS} | {
    "gradient": GRADIENT,
    "stages": STAGES,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources_of_family(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def mergekit() -> Iterator[MergekitProcess]:
    with MergekitProcess(threads=1) as process:
        yield process


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    """One engine of the base for all tests: each must find it whole, and leave it so."""
    with opened(KIND, folder / SOURCES[0], dtype="bfloat16") as engine:
        assert isinstance(engine, TransformersEngine)
        yield engine


def merged(text: str, folder: Path) -> MergedWeights:
    recipe = Recipe.parse(text)
    return MergedWeights(
        recipe=recipe.canonical_text, digest=text[:16], sources=tuple(sources_in(folder).items()), seed=7
    )


def built(text: str, folder: Path, out: Path, mergekit: MergekitProcess | None = None) -> Path:
    options = BuildOptions(seed=7, threads=1)
    build(Recipe.parse(text), sources_in(folder), out, options=options, mergekit=mergekit)
    return out


def held(engine: TransformersEngine) -> dict[str, bytes]:
    return {name: bits(tensor) for name, tensor in engine._model.state_dict().items()}


@pytest.mark.parametrize("name", RECIPES)
def test_every_method_is_the_built_artifact(
    name: str, folder: Path, tmp_path: Path, engine: TransformersEngine, mergekit: MergekitProcess
) -> None:
    """The stream, the weights read back from the engine, log-probabilities and texts."""
    weights = merged(RECIPES[name], folder)
    artifact = built(RECIPES[name], folder, tmp_path / "out", mergekit)
    stored = load_file(artifact / "model.safetensors")
    assert {key: bits(tensor) for key, tensor in weights.tensors()} == {k: bits(t) for k, t in stored.items()}
    engine.load_weights(weights)
    assert (engine.weights.digest, engine.weights.whole) == (weights.digest, True)
    # Some methods compute, and store, more digits than the engine's dtype has.
    assert held(engine) == {key: bits(tensor.bfloat16()) for key, tensor in stored.items()}
    with opened(KIND, artifact, dtype="bfloat16") as reference:
        assert scored(engine, REQUESTS) == scored(reference, REQUESTS)
        prompts = prompts_of(REQUESTS[:2], new=4)
        assert generated(engine, prompts) == generated(reference, prompts)


@pytest.mark.parametrize(("family", "tied"), [("qwen2", True), ("phi3", False), ("mixtral", False)])
def test_families(family: str, tied: bool, tmp_path: Path, mergekit: MergekitProcess) -> None:
    """Tied embeddings, fused projections, and experts that transformers stacks as it loads them; then the base again."""
    folder = sources_of_family(tmp_path, family, tied=tied)
    other = folder / SOURCES[1]
    weights: StreamedWeights = FileWeights(other)
    if family != "mixtral":  # whose experts mergekit writes under other names
        other = built(RECIPES["linear"], folder, tmp_path / "out", mergekit)
        weights = merged(RECIPES["linear"], folder)
    with (
        opened(KIND, other, dtype="bfloat16") as reference,
        opened(KIND, folder / SOURCES[0], dtype="bfloat16") as engine,
    ):
        assert isinstance(engine, TransformersEngine)
        assert isinstance(reference, TransformersEngine)
        own, expected = held(engine), scored(engine, REQUESTS)
        engine.load_weights(weights)
        assert held(engine) == held(reference)
        assert scored(engine, REQUESTS) == scored(reference, REQUESTS)
        engine.load_weights(None)
        assert held(engine) == own
        assert scored(engine, REQUESTS) == expected
        assert engine.weights.digest is None


def test_layer_paths_run_over_replaced_weights(folder: Path, engine: TransformersEngine) -> None:
    with opened(KIND, folder / SOURCES[1], dtype="bfloat16") as other:
        other.set_layer_path((0, 1, 1, 3))
        expected = scored(other, REQUESTS)
    engine.set_layer_path((2, 2))
    engine.load_weights(FileWeights(folder / SOURCES[1]))
    assert engine.layer_path is None
    engine.set_layer_path((0, 1, 1, 3))
    assert scored(engine, REQUESTS) == expected
    engine.set_layer_path(None)


def test_what_does_not_fit_leaves_an_engine_that_answers_nothing(
    folder: Path, tmp_path: Path, engine: TransformersEngine
) -> None:
    def change(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
        if kind == "lack 1 of the":
            del tensors["model.norm.weight"]
        elif kind == "has the shape":
            tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]
        else:
            tensors["model.layers.9.mlp.up_proj.weight"] = tensors["model.norm.weight"]
        return tensors

    for kind in ("lack 1 of the", "has the shape", "is not a tensor of"):
        weights = FileWeights(folder / SOURCES[1], change=lambda tensors, kind=kind: change(tensors, kind))
        with pytest.raises(EngineError, match=kind):
            engine.load_weights(weights)
        for answer in (lambda: scored(engine, REQUESTS), lambda: generated(engine, prompts_of(REQUESTS[:1]))):
            with pytest.raises(EngineError, match="weights of two sources"):
                answer()
    engine.load_weights(None)
    with opened(KIND, folder / SOURCES[0], dtype="bfloat16") as whole:
        assert scored(engine, REQUESTS) == scored(whole, REQUESTS)


def test_an_error_at_any_tensor_leaves_no_mixed_model(folder: Path, engine: TransformersEngine) -> None:
    """Fifty times: after the error nothing is answered, and the next whole change gives the scores of whole weights."""
    expected = {}
    for source in SOURCES[:2]:
        with opened(KIND, folder / source, dtype="bfloat16") as whole:
            expected[source] = scored(whole, REQUESTS[:2])
    draw = random.Random(0)
    for _ in range(50):
        with pytest.raises(OSError, match="injected"):
            engine.load_weights(FileWeights(folder / SOURCES[1], fails_at=draw.randrange(39)))
        with pytest.raises(EngineError, match="weights of two sources"):
            scored(engine, REQUESTS[:2])
        source = draw.choice(SOURCES[:2])
        engine.load_weights(None if source == SOURCES[0] else FileWeights(folder / source))
        assert scored(engine, REQUESTS[:2]) == expected[source]
