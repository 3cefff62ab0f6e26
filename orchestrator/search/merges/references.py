"""What the merges of a search are compared with besides the base: their parents, and the plain average of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.search.merges.search_file import SearchFile
from orchestrator.search.request import short_name
from recipes.recipe import Recipe

AVERAGE = "plain average"


def reference_entries(file: SearchFile) -> list[dict[str, Any]]:
    """Recipe entries of what merges are compared with besides the base: their parents, and the plain average of these."""
    parents = parent_names(file)
    names = unique_names(parents)
    entries: list[dict[str, Any]] = [
        {"name": names[parent], "checkpoint": file.search.sources.get(parent, parent)} for parent in parents
    ]
    average = average_recipe(file)
    if average is not None:
        entries.append({"name": AVERAGE, "mergekit": average})
    return entries


def parent_names(file: SearchFile) -> list[str]:
    """Checkpoints that the merges are made of, as the recipe names them, without the base and without adapters."""
    recipe = _any_recipe(file)
    adapters = set(recipe.adapters)
    sources = [str(source) for source in recipe.sources if source not in adapters]
    return [name for name in sources if _place(file, name) != _place(file, file.search.base)]


def average_recipe(file: SearchFile) -> dict[str, Any] | None:
    """The mean of all parents as a mergekit document (uniform soup); None with fewer than two checkpoints.

    A base that the recipe merges with a single other checkpoint counts as a parent.
    """
    names = parent_names(file)
    if len(names) < 2:
        names = [str(source) for source in _any_recipe(file).sources]
    if len(names) < 2:
        return None
    document: dict[str, Any] = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": {"weight": 1.0}} for name in names],
    }
    stage = file.search.recipe if isinstance(file.search.recipe, dict) else file.search.recipe[0]
    kept = ("dtype", "out_dtype", "tokenizer", "tokenizer_source", "chat_template")
    return document | {key: stage[key] for key in kept if isinstance(stage.get(key), str | dict)}


def _any_recipe(file: SearchFile) -> Recipe:
    """The recipe with some values, to read its sources."""
    return file.recipe(file.corner)


def _place(file: SearchFile, name: str) -> str:
    """A checkpoint's name for comparison: a directory by its path."""
    target = file.search.sources.get(name, name)
    path = (Path(file.folder) / target).expanduser()
    return str(path.resolve()) if path.is_dir() else target


def unique_names(names: Sequence[str]) -> dict[str, str]:
    """Short names of checkpoints; whole ones where the short ones are not distinct, or are taken."""
    short = {name: short_name(name) for name in names}
    taken = ("base", AVERAGE)
    return {
        name: name if list(short.values()).count(s) > 1 or s in taken or s.startswith("trial ") else s
        for name, s in short.items()
    }
