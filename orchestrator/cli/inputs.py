"""Files and names that a user gives: what they are, and the sentence for one that is something else."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from orchestrator.errors import SweepError
from orchestrator.plan.sweep import SweepFile, load_sweep
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.catalog import catalog_names, load_catalog
from recipes.errors import RecipeError
from recipes.outside_file import read_file
from recipes.recipe import Recipe
from recipes.yaml_text import MAX_BYTES, load_yaml_documents

CARD_SUFFIXES = (".md", ".markdown")
_RECIPE_FIELDS = frozenset({"merge_method", "slices", "models", "modules", "base_model", "layer_path"})


def run_of(settings: Settings, text: str) -> str:
    """Id of the run that `text` is, or is the beginning of; RunError where there is none, or several."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        return store.find_run(text)


def sweep_file(path: Path) -> SweepFile:
    """The sweep in a file; SweepError tells what a file that holds none is, and which command takes it."""
    if not path.exists():
        raise SweepError(_missing(path))
    if path.is_dir():
        raise SweepError(f"{path} is a folder; give the sweep file in it{_examples(path)}.")
    if path.suffix.lower() in CARD_SUFFIXES:
        raise SweepError(
            f"{path} is a model card, not a sweep: `mergeboard plan {path}` shows what it claims, `mergeboard reproduce {path}` "
            "checks it."
        )
    data = first_document(path)
    if isinstance(data, dict) and {"recipe", "objectives", "budget"} <= set(data):
        raise SweepError(f"{path} is a search over merges, not a sweep: `mergeboard search {path}` runs it.")
    if is_recipe(data):
        raise SweepError(_wrap(path, Recipe.load(path), {"file": path.name}))
    return load_sweep(path)


def first_document(path: Path) -> Any:
    """What the first YAML document of a file says; None where it is not readable as YAML, which its own reader reports."""
    try:
        documents = load_yaml_documents(read_file(path, MAX_BYTES), str(path))
    except (OSError, RecipeError):
        return None
    return documents[0].data if documents else None


def is_recipe(data: Any) -> bool:
    """Whether a document is a recipe: a mapping with fields of one, and without those that only a sweep has."""
    return isinstance(data, dict) and bool(_RECIPE_FIELDS & set(data)) and not set(data) & {"suites", "base"}


def unknown_recipe(name: str) -> str:
    """The sentence for a name that is neither a file nor a recipe of the catalogue."""
    names = catalog_names()
    near = _near_files(Path(name)) + difflib.get_close_matches(name, names, n=2)
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"the catalogue has {', '.join(names)}."
    return f"There is no file {name}, and no recipe of that name in the catalogue; {hint}"


def _missing(path: Path) -> str:
    """The sentence for a sweep file that is not there."""
    if str(path) in catalog_names():
        return _wrap(path, load_catalog(str(path)).recipe, {"catalog": str(path)})
    near = _near_files(path)
    hint = f"did you mean {' or '.join(near)}?" if near else f"looked in {path.absolute().parent}."
    return f"There is no file {path}; {hint}"


def _near_files(path: Path) -> list[str]:
    """Files beside a path that is not there whose names are like it."""
    folder = path.parent
    if not folder.is_dir():
        return []
    names = [file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml", *CARD_SUFFIXES)]
    return [str(folder / name) for name in difflib.get_close_matches(path.name, sorted(names), n=2)]


def _examples(folder: Path) -> str:
    """Sweeps in a folder, as a clause."""
    names = sorted(str(file) for file in folder.glob("*.y*ml") if not is_recipe(first_document(file)))
    return f", for example {names[0]}" if names else ""


def _wrap(path: Path, recipe: Recipe, entry: dict[str, str]) -> str:
    """The sentence for a recipe where a sweep is needed, with a sweep that holds it."""
    sweep = {
        "name": path.stem,
        "base": str(recipe.sources[0]) if recipe.sources else "CHECKPOINT",
        "recipes": [entry],
        "suites": ["smoke"],
    }
    kind, place = (
        ("a recipe of the catalogue", "") if "catalog" in entry else ("a recipe, not a sweep", " beside it")
    )
    return (
        f"{path} is {kind}. Wrap it in a sweep, like this: write {json.dumps(sweep)} to my-sweep.yaml{place} and use "
        f"`mergeboard run my-sweep.yaml`; `mergeboard plan {path}` and `mergeboard build {path} --out DIR` take the recipe as it is."
    )
