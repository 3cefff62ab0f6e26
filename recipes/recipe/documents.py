"""The documents of a recipe file: stages, or a base with a layer path, and the names that a `sources:` block maps."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from pydantic import Field

from recipes.errors import LayerPathError, RecipeSyntaxError
from recipes.layer_path import LayerPathSpec
from recipes.recipe.node import Node, described
from recipes.recipe.reader import read_stage
from recipes.recipe.refs import SourceRef
from recipes.recipe.stage import Remark, Stage
from recipes.tensor_file import Frozen
from recipes.yaml_text import YamlDocument

MAX_STAGES = 64
MAX_MAPPED = 1000


class PathOf(Frozen):
    """A base checkpoint and a layer path of it, in any spelling."""

    base: SourceRef = Field(description="The checkpoint whose layers are visited.")
    path: LayerPathSpec = Field(
        description="The layer path, which is resolved once the base's layers are known."
    )


class Contents(NamedTuple):
    """What a recipe file says."""

    stages: tuple[Stage, ...]
    path_of: PathOf | None
    mapped: dict[str, SourceRef]
    remarks: tuple[Remark, ...]


def read_documents(documents: list[YamlDocument], origin: str) -> Contents:
    """Read every document of a file."""
    if not documents:
        raise RecipeSyntaxError(f"{origin} is empty: write a mergekit document, or `base` and `layer_path`.")
    if len(documents) > MAX_STAGES:
        raise RecipeSyntaxError(f"{origin} has {len(documents)} stages; at most {MAX_STAGES} are built.")
    remarks: list[Remark] = []
    nodes = [Node(one.data, one, origin, remarks) for one in documents]
    mapped: dict[str, SourceRef] = {}
    for node in nodes:
        node.mapping()
        mapped |= _mapped(node.child("sources"))
    paths = [node for node in nodes if "layer_path" in node.value and "merge_method" not in node.value]
    if paths and len(nodes) > 1:
        paths[0].refuse("a layer path is a recipe of its own; it cannot be one of several stages.")
    path_of = _path_of(paths[0]) if paths else None
    stages = () if paths else tuple(read_stage(node) for node in nodes)
    return Contents(stages, path_of, mapped, tuple(remarks))


def _path_of(node: Node) -> PathOf:
    known = ("base", "layer_path", "about", "sources", "name")
    unknown = next((key for key in node.value if key not in known), None)
    if unknown is not None:
        node.child(unknown).refuse("a recipe of a layer path has `base` and `layer_path` only.")
    base, path = node.child("base"), node.child("layer_path")
    if base.value is None:
        base.refuse("a layer path needs its `base`, the checkpoint whose layers it visits.")
    if not isinstance(path.value, str | list):
        path.refuse(f'a layer path such as "(45, 52)" is expected here, not {described(path.value)}.')
    try:
        return PathOf(base=SourceRef.parse(base.text()), path=LayerPathSpec.parse(path.value))
    except LayerPathError as error:
        path.refuse(str(error))
    except RecipeSyntaxError as error:
        _located(base, error)


def _mapped(node: Node) -> dict[str, SourceRef]:
    if node.value is None:
        return {}
    if len(node.mapping()) > MAX_MAPPED:
        node.refuse(f"{len(node.value):,} names; at most {MAX_MAPPED:,} are mapped.")
    found = {}
    for name in node.value:
        try:
            found[name] = SourceRef.parse(node.child(name).text())
        except RecipeSyntaxError as error:
            _located(node.child(name), error)
    return found


def _located(node: Node, error: RecipeSyntaxError) -> NoReturn:
    """Raise the error with its place, once."""
    if f": {node.field}: " in str(error):
        raise error
    node.refuse(str(error))
