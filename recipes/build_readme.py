"""What mergekit-yaml writes beside a merged checkpoint: `mergekit_config.yml`, and a README with the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipes.recipe import Recipe
from recipes.recipe.identity import dump_documents

CONFIG_NAME = "mergekit_config.yml"
README_NAME = "README.md"


def config_text(recipe: Recipe) -> str:
    """The recipe as mergekit documents; several stages as several documents, named as mergekit-multi takes them."""
    documents = recipe.mergekit_documents()
    if len(documents) == 1:
        return documents[0][1]
    parts = [f"name: {name}\n{text}" if name != "result" else text for name, text in documents]
    return "---\n".join(parts)


def readme_text(recipe: Recipe, name: str, *, layers: int, parameters: int) -> str:
    """A model card with front matter: base models, tags, the recipe."""
    sources = list(
        dict.fromkeys(source.name for source in recipe.sources if not Path(source.name).is_absolute())
    )
    front: dict[str, object] = {"library_name": "transformers", "tags": ["mergekit", "merge"]}
    if sources:
        front = {"base_model": sources} | front
    listed = "\n".join(f"* {_link(source)}" for source in _names(recipe))
    return (
        f"---\n{dump_documents([front])}---\n# {name}\n\n"
        f"This is a merge of pre-trained language models made with mergeboard: {layers} layers, {parameters:,} parameters.\n\n"
        f"## Models merged\n\n{listed}\n\n## Recipe\n\n```yaml\n{config_text(recipe)}```\n"
    )


def _names(recipe: Recipe) -> Sequence[str]:
    return list(dict.fromkeys(str(source) for source in recipe.sources))


def _link(source: str) -> str:
    """A hub name as a link; a directory by its last part, since a card must not tell the paths of a machine."""
    name = source.partition("@")[0]
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return Path(name).name
    return f"[{source}](https://huggingface.co/{name})" if name.count("/") == 1 else source
