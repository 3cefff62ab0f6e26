"""mergeboard recipe list, mergeboard recipe show"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


def list_recipes(as_json: options.AsJson = False) -> None:
    """List the recipes of the catalogue, by the names that `plan`, `build` and a sweep's `catalog` take.

    \b
    Example:
      mergeboard recipe list
    """
    from orchestrator.cli.console import print_rows
    from recipes.catalog import catalog_names, load_catalog

    entries = [load_catalog(name) for name in catalog_names()]
    if as_json:
        data = [
            {"name": e.name, "title": e.title, "published": e.about.published.repo, "source": e.source}
            for e in entries
        ]
        print(json.dumps(data, indent=2))
        return
    print_rows(
        ("recipe", "what it is", "published as"), [(e.name, e.title, e.about.published.repo) for e in entries]
    )


def show_recipe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a recipe of the catalogue.", show_default=False)
    ],
    as_json: options.AsJson = False,
) -> None:
    """Print a recipe of the catalogue as mergekit YAML, to start a recipe of your own from.

    \b
    Example:
      mergeboard recipe show solar-10.7b > my-recipe.yaml
    """
    from recipes.catalog import load_catalog

    entry = load_catalog(name)
    text = entry.path.read_text(encoding="utf-8")
    if as_json:
        print(json.dumps({"name": entry.name, **entry.about.model_dump(mode="json"), "text": text}, indent=2))
        return
    typer.echo(text, nl=False)
