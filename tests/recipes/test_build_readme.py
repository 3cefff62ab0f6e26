"""What is written beside a built checkpoint: the recipe as mergekit takes it, and a card with front matter."""

from __future__ import annotations

import pytest
import yaml

from recipes.build_readme import config_text, readme_text
from recipes.catalog import catalog_names, load_catalog
from recipes.layer_path import LayerPathSpec
from recipes.recipe import Recipe, SourceRef

LINEAR = {
    "merge_method": "linear",
    "dtype": "bfloat16",
    "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("org/one", "/models/two")],
}


@pytest.mark.parametrize("name", catalog_names())
def test_the_config_is_the_recipe(name: str) -> None:
    recipe = load_catalog(name).recipe
    assert Recipe.parse(config_text(recipe)).canonical_text == recipe.canonical_text


def test_a_layer_path_is_a_mergekit_document() -> None:
    recipe = Recipe.from_layer_path(SourceRef(name="org/base"), LayerPathSpec.parse("(1, 3)").resolve(4))
    (document,) = yaml.safe_load_all(config_text(recipe))
    assert document["merge_method"] == "passthrough"
    ranges = [part["sources"][0]["layer_range"] for part in document["slices"]]
    assert ranges == [[0, 3], [1, 4]]


def test_the_readme_has_front_matter_and_names_no_folder_as_a_base() -> None:
    text = readme_text(Recipe.from_data(LINEAR), "my-merge", layers=4, parameters=1234567)
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": ["org/one"], "library_name": "transformers", "tags": ["mergekit", "merge"],
    }  # fmt: skip
    assert "# my-merge" in body
    assert "1,234,567 parameters" in body
    assert "* [org/one](https://huggingface.co/org/one)\n* two\n" in body
    recipe = body.split("```yaml\n")[1].split("```")[0]
    assert Recipe.parse(recipe).canonical_text == Recipe.from_data(LINEAR).canonical_text
