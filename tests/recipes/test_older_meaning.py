"""Recipes that an older mergekit accepted: their meaning as a note, and what is built from them against sums by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from recipes.errors import RecipeSyntaxError
from recipes.merge import BuildOptions, build
from recipes.recipe import Recipe
from tests.support.tiny_checkpoints import tiny_checkpoint

LAYERS = 2
OUTSIDE = """
merge_method: slerp
base_model: org/base
slices: [{sources: [{model: org/one, layer_range: [0, 2]}, {model: org/two, layer_range: [0, 2]}]}]
parameters: {t: 0.25}
dtype: float32
"""
TWICE = """
merge_method: linear
models:
  - {model: org/one, parameters: {weight: 3}}
  - {model: org/two, parameters: {weight: 1}}
  - {model: org/one, parameters: {weight: 7}}
dtype: float32
"""
SAME = """
merge_method: slerp
base_model: org/one
models: [{model: org/one}, {model: org/one}]
parameters: {t: 0.25}
"""


def slerp_by_hand(t: float, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation of two tensors as vectors in float64; linear where they are nearly parallel."""
    a, b = a.double(), b.double()
    cosine = (a * b).sum() / (a.norm() * b.norm())
    if cosine.abs() > 0.9995:
        return (1 - t) * a + t * b
    angle = torch.arccos(cosine)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("older")
    names = ("org/base", "org/one", "org/two")
    return {n: tiny_checkpoint(root / n, layers=LAYERS, seed=seed) for seed, n in enumerate(names)}


@pytest.mark.slow
def test_what_is_built(sources: dict[str, Path], tmp_path: Path) -> None:
    one, two = (load_file(sources[name] / "model.safetensors") for name in ("org/one", "org/two"))
    for name, text in (("outside", OUTSIDE), ("twice", TWICE), ("same", SAME)):
        build(Recipe.parse(text), sources, tmp_path / name, options=BuildOptions(threads=1))
    built = {n: load_file(tmp_path / n / "model.safetensors") for n in ("outside", "twice", "same")}
    for key in one:
        by_hand = slerp_by_hand(0.25, two[key], one[key])  # t = 0 is the second source
        torch.testing.assert_close(built["outside"][key].double(), by_hand, atol=1e-5, rtol=1e-4)
        mean = (3 * one[key].double() + two[key].double()) / 4  # the second entry of org/one does not count
        torch.testing.assert_close(built["twice"][key].double(), mean, atol=1e-6, rtol=1e-5)
        assert torch.equal(built["same"][key], one[key])
    assert (tmp_path / "outside/tokenizer.json").read_bytes() == (
        sources["org/base"] / "tokenizer.json"
    ).read_bytes()


def test_the_notes() -> None:
    (note,) = Recipe.parse(OUTSIDE, "r.yaml").remarks
    assert note == (
        "r.yaml:4: slices[0]: the base org/base is no source of this slerp; mergekit of 2023 took the second source as the base, so t = 0 "
        "is org/two and t = 1 is org/one; org/base gives config and tokenizer only, and so it is built (mergekit 0.0.4.4 and later refuse it)."
    )
    (note,) = Recipe.parse(TWICE, "r.yaml").remarks
    assert note == (
        "r.yaml:3: models: org/one is listed 2 times; mergekit before 0.1.5 counted it once, with the first entry's parameters, and so it "
        "is built."
    )
    assert "copied it unchanged" in Recipe.parse(SAME).remarks[-1]


def test_the_meaning_is_a_recipe_of_today() -> None:
    """The normal form needs no older mergekit, and has the digest of the same merge written for today's."""
    today = OUTSIDE.replace("layer_range: [0, 2]}]}", "layer_range: [0, 2]}], base_model: org/two}")
    weights = {"org/base": "0", "org/one": "1", "org/two": "2"}
    for older, same in (
        (OUTSIDE, today),
        (TWICE, TWICE.replace("  - {model: org/one, parameters: {weight: 7}}\n", "")),
        (SAME, "merge_method: passthrough\nmodels: [{model: org/one}]"),
    ):
        read = Recipe.parse(older)
        assert not Recipe.parse(same).remarks
        assert Recipe.parse(read.canonical_text).remarks == ()
        assert read.digest(weights) == Recipe.parse(same).digest(weights)


def test_what_the_first_entry_leaves_open_comes_from_the_second() -> None:
    data: dict[str, Any] = yaml.safe_load(TWICE)
    data["models"][0]["parameters"] = {"weight": [{"filter": "mlp", "value": 3}]}
    (stage,) = Recipe.from_data(data).canonical
    assert stage["models"][0]["parameters"]["weight"] == [{"filter": "mlp", "value": 3}, {"value": 7}]
    assert len(stage["models"]) == 2


def test_names_are_mapped_as_in_every_recipe() -> None:
    mapped = Recipe.parse(OUTSIDE).with_sources({"org/two": "mine/two"})
    assert mapped.canonical[0]["slices"][0]["base_model"] == "mine/two"
    assert mapped.remarks


def test_what_stays_refused() -> None:
    for text, reason in (
        (OUTSIDE.replace("slerp", "ties").replace("t: 0.25", "weight: 1"), "must be one of the inputs"),
        (OUTSIDE.replace("model: org/two, layer_range: [0, 2]", "model: org/one, layer_range: [1, 3]"), "different layers"),
        (OUTSIDE + "tokenizer_source: base", "must be one of the inputs"),
    ):  # fmt: skip
        with pytest.raises(RecipeSyntaxError, match=reason):
            Recipe.parse(text)
