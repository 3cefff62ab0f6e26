"""Recipes by name, each with its source and the config facts of its checkpoints, so that it plans without weights.

The files are ordinary mergekit documents; mergekit ignores their `about:` block, which holds what is ours.
"""

from __future__ import annotations

import difflib
import functools
import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from recipes.errors import RecipeError, RecipeSyntaxError
from recipes.recipe import Recipe
from recipes.tensor_file import Frozen
from recipes.yaml_text import load_yaml_documents

_FOLDER = Path(__file__).parent


class Published(Frozen):
    """The checkpoint that its author published."""

    repo: str = Field(description="Its repository on the hub.")
    parameters_b: float | None = Field(
        default=None, description="Its parameters in billions as the leaderboard lists them, where it does."
    )


class About(Frozen):
    """What the catalogue says about a recipe beside the recipe itself."""

    title: str = Field(description="What it is, in a line.")
    source: str = Field(description="Address where the recipe is published.")
    notes: str = Field(default="", description="How this file differs from what is published there.")
    published: Published = Field(description="The checkpoint that came of it.")
    configs: dict[str, str] = Field(description="Name of each source, and the file with its config facts.")


class CatalogEntry(Frozen):
    """A recipe of the catalogue."""

    name: str = Field(description="Its name in the catalogue.")
    path: Path = Field(description="Its file, which mergekit reads too.")
    about: About = Field(description="Where it comes from.")
    recipe: Recipe = Field(description="The recipe.")

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return self.about.title

    @property
    def source(self) -> str:
        """Address where the recipe is published."""
        return self.about.source

    def config(self, source: str) -> dict[str, Any] | None:
        """Config facts of one of its sources; None for another."""
        file = self.about.configs.get(source)
        return None if file is None else _config(file)


def catalog_names() -> tuple[str, ...]:
    """Names of all recipes of the catalogue."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@functools.cache
def load_catalog(name: str) -> CatalogEntry:
    """The recipe of that name."""
    if name not in catalog_names():
        near = difflib.get_close_matches(name.lower(), catalog_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(catalog_names())}."
        raise RecipeError(f"The catalogue has no recipe {name[:80]!r}; {hint}")
    path = _FOLDER / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    try:
        about = About.model_validate(load_yaml_documents(text, str(path))[0].data["about"])
    except (KeyError, ValidationError) as error:
        raise RecipeSyntaxError(f"{path}: its `about:` block is not as it has to be ({error}).") from error
    return CatalogEntry(name=name, path=path, about=about, recipe=Recipe.parse(text, origin=str(path)))


def find_in_catalog(model_name: str) -> CatalogEntry | None:
    """The entry whose published checkpoint has this name, with or without its organisation; None where none has."""
    wanted = model_name.strip().lower().rpartition("/")[2]
    for name in catalog_names():
        entry = load_catalog(name)
        if entry.about.published.repo.lower().rpartition("/")[2] == wanted:
            return entry
    return None


def catalog_config(source: str) -> dict[str, Any] | None:
    """Config facts of a checkpoint that some recipe of the catalogue uses; None where none does."""
    found = (load_catalog(name).config(source) for name in catalog_names())
    return next((config for config in found if config is not None), None)


@functools.cache
def _config(file: str) -> dict[str, Any]:
    return dict(json.loads((_FOLDER / "configs" / f"{file}.json").read_text(encoding="utf-8")))
