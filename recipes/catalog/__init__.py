"""Catalogue of published recipes, with the configs of their source checkpoints, so that plans need no download.

The files are mergekit documents with an additional `about:` block, which mergekit ignores.
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
    """The published checkpoint of a recipe."""

    repo: str = Field(description="Repository on the hub.")
    parameters_b: float | None = Field(
        default=None, description="Parameters in billions on the leaderboard; null if not listed."
    )


class About(Frozen):
    """The `about:` block of a catalogue file."""

    title: str = Field(description="Title in one line.")
    source: str = Field(description="URL of the published recipe.")
    notes: str = Field(default="", description="How this file differs from the published recipe.")
    published: Published = Field(description="The published checkpoint.")
    configs: dict[str, str] = Field(description="Maps each source to the name of its config file.")


class CatalogEntry(Frozen):
    """One entry of the catalogue."""

    name: str = Field(description="Name in the catalogue.")
    path: Path = Field(description="Path of the file, a valid mergekit document.")
    about: About = Field(description="Origin of the recipe.")
    recipe: Recipe = Field(description="The recipe.")

    @property
    def title(self) -> str:
        """Title in one line."""
        return self.about.title

    @property
    def source(self) -> str:
        """URL of the published recipe."""
        return self.about.source

    def config(self, source: str) -> dict[str, Any] | None:
        """Config of a source of this recipe; None for any other name."""
        file = self.about.configs.get(source)
        return None if file is None else _load_config(file)


def catalog_names() -> tuple[str, ...]:
    """Sorted names of all entries."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@functools.cache
def load_catalog(name: str) -> CatalogEntry:
    """Load an entry. Raises RecipeError for an unknown name."""
    if name not in catalog_names():
        near = difflib.get_close_matches(name.lower(), catalog_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(catalog_names())}."
        raise RecipeError(f"The catalogue has no recipe {name[:80]!r}; {hint}")
    path = _FOLDER / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    try:
        about = About.model_validate(load_yaml_documents(text, str(path))[0].data["about"])
    except (KeyError, ValidationError) as error:
        raise RecipeSyntaxError(f"{path}: its `about:` block is not valid ({error}).") from error
    return CatalogEntry(name=name, path=path, about=about, recipe=Recipe.parse(text, origin=str(path)))


def find_in_catalog(model_name: str) -> CatalogEntry | None:
    """Find the entry whose published checkpoint has this name, with or without organisation; None if there is none."""
    short_name = model_name.strip().lower().rpartition("/")[2]
    for name in catalog_names():
        entry = load_catalog(name)
        if entry.about.published.repo.lower().rpartition("/")[2] == short_name:
            return entry
    return None


def catalog_config(source: str) -> dict[str, Any] | None:
    """Config of a checkpoint that any entry uses as a source; None if there is none."""
    configs = (load_catalog(name).config(source) for name in catalog_names())
    return next((config for config in configs if config is not None), None)


@functools.cache
def _load_config(file: str) -> dict[str, Any]:
    return dict(json.loads((_FOLDER / "configs" / f"{file}.json").read_text(encoding="utf-8")))
