"""The normal form of a recipe means to mergekit what the text means, tensor by tensor; also where the text is odd."""

import random

import pytest
import yaml

from recipes.errors import RecipeError
from recipes.recipe import Recipe
from tests.support.mergekit_meaning import Refused, meaning
from tests.support.published_recipes import PUBLISHED, damaged

MERGES = {name: text for name, text in PUBLISHED.items() if "merge_method" in text}
STRICTER = ("twice in one mapping", "chat_template", "not the name of a checkpoint", "is not text")
"""Where we refuse on purpose what mergekit reads: it takes the last of two keys, and keeps what it cannot use."""


@pytest.mark.parametrize("name", MERGES)
def test_published_recipes(name: str) -> None:
    assert meaning(Recipe.parse(MERGES[name]).canonical_text) == meaning(MERGES[name])
    documents = [
        {**yaml.safe_load(text), "name": name}
        for name, text in Recipe.parse(MERGES[name]).mergekit_documents()
    ]
    documents[-1].pop("name")
    assert meaning(yaml.safe_dump_all(documents)) == meaning(MERGES[name])


def test_damaged_recipes() -> None:
    """What is accepted means the same to mergekit; what mergekit accepts is refused only for a reason of ours."""
    rng = random.Random(20)
    agreed = 0
    for _ in range(250):
        text = damaged(rng.choice(list(MERGES.values())), rng, tuple(MERGES.values()))
        try:
            read = Recipe.parse(text)
        except RecipeError as error:
            try:
                meaning(text)
            except Refused:
                continue
            assert any(reason in str(error) for reason in STRICTER), (text, str(error))  # noqa: PT017
            continue
        remarks = "".join(read.remarks)
        if read.path_of or "given for some tensors only" in remarks or "so it is built" in remarks:
            continue  # no merge, refused for some tensors, or with the meaning of an older mergekit
        assert meaning(read.canonical_text) == meaning(text), text
        agreed += 1
    assert agreed > 20
