"""Reads the documents of a recipe file: stages, or a base with a layer path, and the `sources:` mapping."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from pydantic import Field

from recipes.errors import LayerPathError, RecipeSyntaxError
from recipes.layer_path import LayerPathSpec
from recipes.recipe.node import Node, describe
from recipes.recipe.reader import read_stage
from recipes.recipe.refs import SourceRef
from recipes.recipe.stage import Remark, Stage
from recipes.tensor_file import Frozen
from recipes.yaml_text import YamlDocument

MAX_STAGES = 64
MAX_MAPPED = 1000


class PathOf(Frozen):
    """A base checkpoint and a layer path."""

    base: SourceRef = Field(description="Base checkpoint.")
    path: LayerPathSpec = Field(
        description="Layer path, resolved when the number of layers of the base is known."
    )


class Contents(NamedTuple):
    """Content of a recipe file."""

    stages: tuple[Stage, ...]
    path_of: PathOf | None
    mapped: dict[str, SourceRef]
    remarks: tuple[Remark, ...]


def read_documents(documents: list[YamlDocument], origin: str) -> Contents:
    """Read all documents of a recipe file. Raises RecipeSyntaxError."""
    if not documents:
        raise RecipeSyntaxError(f"{origin} is empty: write a mergekit document, or `base` and `layer_path`.")
    if len(documents) > MAX_STAGES:
        raise RecipeSyntaxError(f"{origin} has {len(documents)} stages; at most {MAX_STAGES} are built.")
    remarks: list[Remark] = []
    nodes = [Node(yaml_document.data, yaml_document, origin, remarks) for yaml_document in documents]
    mapped: dict[str, SourceRef] = {}
    for node in nodes:
        node.mapping()
        mapped |= _read_sources(node.child("sources"))
    path_nodes = [node for node in nodes if "layer_path" in node.value and "merge_method" not in node.value]
    if path_nodes and len(nodes) > 1:
        path_nodes[0].refuse("a layer path is a separate recipe; it cannot be one of several stages.")
    path_of = _read_layer_path(path_nodes[0]) if path_nodes else None
    stages = () if path_nodes else tuple(read_stage(node) for node in nodes)
    return Contents(stages, path_of, mapped, tuple(remarks))


def _read_layer_path(node: Node) -> PathOf:
    allowed = ("base", "layer_path", "about", "sources", "name")
    unknown = next((key for key in node.value if key not in allowed), None)
    if unknown is not None:
        node.child(unknown).refuse("a recipe of a layer path has `base` and `layer_path` only.")
    base, path = node.child("base"), node.child("layer_path")
    if base.value is None:
        base.refuse("a layer path needs its `base`, the checkpoint whose layers it visits.")
    if not isinstance(path.value, str | list):
        path.refuse(f'a layer path such as "(45, 52)" is expected here, not {describe(path.value)}.')
    try:
        return PathOf(base=SourceRef.parse(base.text()), path=LayerPathSpec.parse(path.value))
    except LayerPathError as error:
        path.refuse(str(error))
    except RecipeSyntaxError as error:
        _raise_located(base, error)


def _read_sources(node: Node) -> dict[str, SourceRef]:
    if node.value is None:
        return {}
    if len(node.mapping()) > MAX_MAPPED:
        node.refuse(f"{len(node.value):,} names; at most {MAX_MAPPED:,} are mapped.")
    sources = {}
    for name in node.value:
        try:
            sources[name] = SourceRef.parse(node.child(name).text())
        except RecipeSyntaxError as error:
            _raise_located(node.child(name), error)
    return sources


def _raise_located(node: Node, error: RecipeSyntaxError) -> NoReturn:
    """Raise the error with file, line and field, unless it has them."""
    if f": {node.field}: " in str(error):
        raise error
    node.refuse(str(error))
