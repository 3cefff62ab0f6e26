"""Live merges in this process: what they share, what they leave undisturbed, and how they fail."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from recipes.errors import BuildError
from recipes.merge import MergedWeights
from recipes.merge.live import pool
from recipes.recipe import Recipe
from tests.support.merge_recipes import SOURCES, STAGES, method_recipe, sources_in
from tests.support.tiny_checkpoints import tiny_checkpoint

LAYERS = 4
SEED = 7

RECIPES = {name: method_recipe(name) for name in ("slerp", "dare_ties", "linear")} | {"stages": STAGES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny sources; one in two files."""
    root = tmp_path_factory.mktemp("live")
    for seed, source in enumerate(SOURCES):
        tiny_checkpoint(root / source, layers=LAYERS, seed=seed, shards=2 if seed == 2 else 1)
    return root


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


@pytest.mark.parametrize("name", ["dare_ties", "stages"])
def test_random_numbers_of_this_process_are_not_disturbed(name: str, folder: Path) -> None:
    """Nor do they disturb the merge. That the tensors are the built artifact's is tested with the engines."""
    weights = pickle.loads(pickle.dumps(live(RECIPES[name], folder)))
    expected = {tensor_name: tensor.clone() for tensor_name, tensor in weights.tensors()}
    torch.manual_seed(99)
    draws = torch.rand(6).reshape(2, 3)
    torch.manual_seed(99)
    tensors = {}
    for tensor_name, tensor in weights.tensors():
        tensors[tensor_name] = tensor.clone()
        if len(tensors) in (3, 20):
            assert torch.equal(torch.rand(3), draws[len(tensors) // 20])
    assert same(tensors, expected)


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
