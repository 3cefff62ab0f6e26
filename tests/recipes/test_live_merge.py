"""Live merges in this process: what they share, what they leave undisturbed, and how they fail."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from recipes.errors import BuildError
from recipes.merge import BuildOptions, MergedWeights, build
from recipes.merge.live import pool
from recipes.merge.stage_inputs import StageInputs
from recipes.merge.vocabulary import keeps_vocabulary
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


@pytest.mark.parametrize("method", ["slerp", pytest.param("dare_ties", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rows", [None, 1000], ids=["fits", "rows without tokens"])
def test_a_tokenizer_that_is_set(method: str, rows: int | None, folder: Path, tmp_path: Path) -> None:
    """The built artifact's tensors, whether or not mergekit moves rows; its tokenizer reads texts as the base's does."""
    for seed, source in enumerate(SOURCES):
        tokens = len(json.loads((folder / source / "tokenizer.json").read_text())["model"]["vocab"])
        tiny_checkpoint(tmp_path / source, layers=1, seed=seed, vocabulary=rows or tokens)
    text = json.dumps(json.loads(method_recipe(method)) | {"tokenizer_source": "union"})
    tensors = {name: tensor.clone() for name, tensor in live(text, tmp_path).tensors()}
    build(
        Recipe.parse(text), sources_in(tmp_path), tmp_path / "out", options=BuildOptions(seed=SEED, threads=1)
    )
    assert same(tensors, load_file(tmp_path / "out/model.safetensors"))
    inputs = StageInputs(Recipe.parse(text), sources_in(tmp_path), allow_pickles=False)
    (stage,) = inputs.recipe.ordered
    sizes = {inputs.directory(ref): inputs.checkpoint(ref).config.vocab_size for ref in stage.refs()}
    assert keeps_vocabulary(stage, sizes, ["BF16"]) == (method == "slerp" and rows is None)
    ours, theirs = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("org/base", "out"))
    for sample in ("The quick brown fox", " (A) 12\n\n<|im_start|>user", "\u00e4\u4e2d"):
        assert ours(sample).input_ids == theirs(sample).input_ids
    assert ours.chat_template == theirs.chat_template
