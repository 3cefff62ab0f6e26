"""Live merges: the tensors of the built artifact, bit for bit and in this process; what they share and leave undisturbed."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes.errors import BuildError
from recipes.merge import BuildOptions, MergedWeights, MergekitProcess, build
from recipes.merge.live import pool
from recipes.recipe import Recipe
from tests.support.merge_recipes import SOURCES, STACKED, method_recipe, sources_in
from tests.support.tiny_checkpoints import tiny_checkpoint

LAYERS = 4
SEED = 7

GRADIENT = """
merge_method: slerp
base_model: org/one
slices:
  - sources: [{model: org/one, layer_range: [0, 2]}, {model: org/two, layer_range: [2, 4]}]
    parameters: {t: 0.25}
  - sources: [{model: org/two, layer_range: [0, 2]}, {model: org/one, layer_range: [1, 3]}]
    base_model: org/two
parameters: {t: [0.1, 0.9]}
dtype: float32
out_dtype: float16
"""
STAGES = """
name: drawn
merge_method: dare_ties
base_model: org/base
models: [{model: org/one, parameters: {weight: 0.6, density: 0.5}}, {model: org/two, parameters: {weight: 0.4, density: 0.5}}]
dtype: float32
out_dtype: bfloat16
---
name: stack
merge_method: passthrough
slices: [{sources: [{model: drawn, layer_range: [0, 3]}]}, {sources: [{model: org/two, layer_range: [1, 4]}]}]
---
name: shallow
merge_method: passthrough
slices: [{sources: [{model: stack, layer_range: [0, 2]}]}, {sources: [{model: stack, layer_range: [4, 6]}]}]
---
merge_method: della
base_model: org/base
models: [{model: shallow, parameters: {weight: 0.5}}, {model: org/one, parameters: {weight: 0.3}}]
"""
RECIPES = {
    "slerp": method_recipe("slerp"),
    "dare_ties": method_recipe("dare_ties"),
    "linear": method_recipe("linear"),
    "stacked": STACKED,
    "gradient": GRADIENT,
    "stages": STAGES,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny sources; one in two files."""
    root = tmp_path_factory.mktemp("live")
    for seed, source in enumerate(SOURCES):
        tiny_checkpoint(root / source, layers=LAYERS, seed=seed, shards=2 if seed == 2 else 1)
    return root


@pytest.fixture(scope="module")
def mergekit() -> Iterator[MergekitProcess]:
    """One mergekit process for the tests of this file."""
    with MergekitProcess(threads=1) as process:
        yield process


def live(text: str, folder: Path, seed: int = SEED) -> MergedWeights:
    return MergedWeights(
        recipe=Recipe.parse(text).canonical_text,
        digest="0" * 16,
        sources=tuple(sources_in(folder).items()),
        seed=seed,
    )


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Same names, dtypes, shapes and bits."""
    return ours.keys() == theirs.keys() and all(
        tensor.dtype == theirs[name].dtype
        and tensor.shape == theirs[name].shape
        and torch.equal(tensor.reshape(-1).view(torch.uint8), theirs[name].reshape(-1).view(torch.uint8))
        for name, tensor in ours.items()
    )


@pytest.mark.parametrize("name", ["dare_ties", "stacked", "gradient", "stages"])
def test_equals_the_built_artifact_bit_for_bit(
    name: str, folder: Path, tmp_path: Path, mergekit: MergekitProcess
) -> None:
    """Also after other random numbers were drawn in this process, which go on as if nothing had happened."""
    weights = pickle.loads(pickle.dumps(live(RECIPES[name], folder)))
    torch.manual_seed(99)
    expected_draw = torch.rand(3)
    torch.manual_seed(99)
    ours = {}
    for tensor_name, tensor in weights.tensors():
        ours[tensor_name] = tensor.clone()
        if len(ours) == 3:
            assert torch.equal(torch.rand(3), expected_draw)
    build(
        Recipe.parse(RECIPES[name]),
        sources_in(folder),
        tmp_path / "out",
        options=BuildOptions(seed=SEED, threads=1),
        mergekit=mergekit,
    )
    assert same(ours, load_file(tmp_path / "out" / "model.safetensors"))


def test_the_seed_decides_what_random_methods_draw(folder: Path) -> None:
    draws = [
        {name: tensor.clone() for name, tensor in live(RECIPES["dare_ties"], folder, seed).tensors()}
        for seed in (1, 1, 2)
    ]
    assert same(draws[0], draws[1])
    assert not same(draws[0], draws[2])


def test_sources_are_mapped_once_and_a_replaced_file_is_opened_again(folder: Path, tmp_path: Path) -> None:
    for source in SOURCES:
        shutil.copytree(folder / source, tmp_path / source)
    weights = live(RECIPES["slerp"], tmp_path)
    first = {name: tensor.clone() for name, tensor in weights.tensors()}
    opened = pool().loader(tmp_path / "org/one")
    assert same(first, {name: tensor.clone() for name, tensor in weights.tensors()})
    assert pool().loader(tmp_path / "org/one") is opened
    shutil.rmtree(tmp_path / "org/one")
    shutil.copytree(folder / "org/two", tmp_path / "org/one")
    assert pool().loader(tmp_path / "org/one") is not opened
    assert not same(first, dict(weights.tensors()))


def test_what_fails_says_so_in_one_sentence_and_the_next_merge_works(folder: Path, tmp_path: Path) -> None:
    wide = tiny_checkpoint(tmp_path / "wide", layers=LAYERS, hidden=96)
    weights = live(RECIPES["slerp"], folder)
    bad = weights.model_copy(update={"sources": (("org/base", folder / "org/base"), ("org/one", wide))})
    with pytest.raises(BuildError, match=r"mergekit could not merge: .*[Ss]ize mismatch"):
        dict(bad.tensors())
    abandoned = weights.tensors()
    next(abandoned)
    abandoned.close()
    adapter = json.loads(RECIPES["linear"])
    adapter["models"][0]["model"] = "org/one+org/two"
    with pytest.raises(BuildError, match="needs files"):
        dict(live(json.dumps(adapter), folder).tensors())
    assert len(dict(weights.tensors())) > 30
