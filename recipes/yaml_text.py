"""Strict reader of untrusted YAML: plain data only, bounded size, line numbers of all values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from recipes.errors import RecipeSyntaxError

MAX_BYTES = 4_000_000
MAX_NODES = 200_000
MAX_DEPTH = 60
_PLAIN = "tag:yaml.org,2002:"
_TAGS = frozenset(
    _PLAIN + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
)

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader if PyYAML includes it: ten times as fast."""


@dataclass(frozen=True)
class YamlDocument:
    """A YAML document as plain data, with the line of each value."""

    data: Any
    lines: dict[tuple[int | str, ...], int] = field(default_factory=dict)
    first_line: int = 1

    def line_of(self, location: tuple[int | str, ...]) -> int:
        """Line (from 1) of the value at this path, or of its nearest existing parent."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.lines:
                return self.lines[location[:end]]
        return self.first_line


def load_yaml(data: bytes | str, origin: str) -> YamlDocument:
    """Read a YAML text of exactly one document. Raises RecipeSyntaxError with file and line."""
    documents = load_yaml_documents(data, origin)
    if len(documents) != 1:
        problem = "is empty" if not documents else f"holds {len(documents)} YAML documents"
        raise RecipeSyntaxError(f"{origin} {problem}; one document is expected.")
    return documents[0]


def load_yaml_documents(data: bytes | str, origin: str) -> list[YamlDocument]:
    """Read all non-empty documents of a YAML text, in order. Raises RecipeSyntaxError with file and line."""
    text = _decode(data, origin)
    documents = []
    try:
        _check_events(text, origin)
        loader = LOADER(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            reader = _Reader(origin, loader)
            reader.check(node)
            value = reader.value(node, ())
            if value is not None:
                documents.append(YamlDocument(value, reader.lines, node.start_mark.line + 1))
    except yaml.YAMLError as error:
        raise RecipeSyntaxError(_yaml_error_text(error, origin)) from error
    except RecursionError as error:
        raise RecipeSyntaxError(f"{origin} is nested too deeply; it is not read.") from error
    except (ValueError, OverflowError, AttributeError, KeyError) as error:
        # PyYAML raises AttributeError and KeyError for `!!timestamp x` and `!!bool x`.
        raise RecipeSyntaxError(
            f"{origin} holds a value that is not valid YAML ({str(error)[:200]})."
        ) from error
    return documents


def _check_events(text: str, origin: str) -> None:
    """Refuse too large or deep texts before composing them: the composer recurses, and a node takes 1 kB."""
    depth = count = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if count > MAX_NODES or depth > MAX_DEPTH:
            what = (
                f"more than {MAX_NODES:,} values"
                if count > MAX_NODES
                else f"values nested more than {MAX_DEPTH} deep"
            )
            raise RecipeSyntaxError(
                f"{origin}:{event.start_mark.line + 1 if event.start_mark else 1}: the YAML has {what}; it is not read."
            )


def _decode(data: bytes | str, origin: str) -> str:
    if len(data) > MAX_BYTES:
        raise RecipeSyntaxError(f"{origin} has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    if isinstance(data, str):
        return data
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeSyntaxError(
            f"{origin} is not text (byte {error.start} is not UTF-8); give a YAML file."
        ) from error
    return text


def _yaml_error_text(error: yaml.YAMLError, origin: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{origin}:{mark.line + 1}" if mark is not None else origin
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    return f"{where}: not valid YAML: {problem}."


class _Reader:
    """Converts nodes into plain data, with limits that hold after aliases are expanded."""

    def __init__(self, origin: str, loader: Any) -> None:
        self._origin = origin
        self._loader = loader
        self._count = 0
        self.lines: dict[tuple[int | str, ...], int] = {}

    def check(self, root: yaml.Node) -> None:
        """Refuse trees that are too deep, too large after expanding aliases, or recursive."""
        stack: list[tuple[yaml.Node, int, bool]] = [(root, 0, False)]
        open_nodes: set[int] = set()
        count = 0
        while stack:
            node, depth, leaving = stack.pop()
            if leaving:
                open_nodes.discard(id(node))
                continue
            count += 1
            if count > MAX_NODES:
                self._refuse(node, f"aliases and all it holds more than {MAX_NODES:,} values")
            if depth > MAX_DEPTH:
                self._refuse(node, f"nested more than {MAX_DEPTH} deep")
            if id(node) in open_nodes:
                self._refuse(node, "a value that contains itself")
            if isinstance(node, yaml.CollectionNode):
                open_nodes.add(id(node))
                stack.append((node, depth, True))
                children = (
                    [n for pair in node.value for n in pair]
                    if isinstance(node, yaml.MappingNode)
                    else node.value
                )
                stack.extend((child, depth + 1, False) for child in children)

    def value(self, node: yaml.Node, path: tuple[int | str, ...]) -> Any:
        """Convert a node into plain data."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            self._refuse(
                node, f"the tag {node.tag.removeprefix(_PLAIN)!r}, which would run code or is not plain data"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: tuple[int | str, ...]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN + "merge":
                merged = {**self._merge(value_node, path), **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, "a key that is not plain text")
            key = self._loader.construct_object(key_node)
            if key in result:
                self._refuse(key_node, f"the key {key!r} twice in one mapping")
            result[key] = self.value(value_node, (*path, key))
            self.lines[(*path, key)] = key_node.start_mark.line + 1
        return {**merged, **result}

    def _merge(self, node: yaml.Node, path: tuple[int | str, ...]) -> dict[Any, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[Any, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                self._refuse(part, "a merge key `<<` whose value is not a mapping")
            else:
                merged = {**self._mapping(part, path), **merged}
        return merged

    def _refuse(self, node: yaml.Node, what: str) -> NoReturn:
        raise RecipeSyntaxError(
            f"{self._origin}:{node.start_mark.line + 1}: the YAML has {what}; it is not read."
        )
