"""What `evals/vllm` imports from vLLM and calls there, read off its own sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "evals" / "vllm"


@dataclass(frozen=True)
class Import:
    """`from module import name`, and the name that our module gives it."""

    place: str
    module: str
    name: str
    known_as: str


@dataclass(frozen=True)
class Call:
    """A call of an imported name; not complete where it unpacks arguments."""

    place: str
    imported: Import
    positional: int
    named: frozenset[str]
    complete: bool


@dataclass(frozen=True)
class Override:
    """A method of one of our subclasses of vLLM's classes that calls the same method of its base."""

    place: str
    base: Import
    method: str


def our_modules() -> dict[str, ast.Module]:
    """Our sources by file name."""
    return {file.name: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.py"))}


def imports_of(file: str, tree: ast.Module) -> Iterator[Import]:
    """Wherever in the file they are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            for alias in node.names:
                yield Import(
                    f"{file}:{node.lineno}", str(node.module), alias.name, alias.asname or alias.name
                )


def calls_of(file: str, tree: ast.Module) -> Iterator[Call]:
    """Calls of names that the file imports from vLLM."""
    known = {i.known_as: i for i in imports_of(file, tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
            named = frozenset(k.arg for k in node.keywords if k.arg)
            starred = any(isinstance(a, ast.Starred) for a in node.args)
            complete = not starred and all(k.arg for k in node.keywords)
            yield Call(
                f"{file}:{node.lineno}",
                known[node.func.id],
                0 if starred else len(node.args),
                named,
                complete,
            )


def overrides_of(file: str, tree: ast.Module) -> Iterator[Override]:
    """`super().method(...)` in subclasses of vLLM's classes."""
    known = {i.known_as: i for i in imports_of(file, tree)}
    for node in ast.walk(tree):
        bases = [b.id for b in getattr(node, "bases", []) if isinstance(b, ast.Name) and b.id in known]
        for base in bases:
            for inner in ast.walk(node):
                if (
                    isinstance(inner, ast.Attribute)
                    and isinstance(inner.value, ast.Call)
                    and ast.unparse(inner.value) == "super()"
                    and inner.attr != "__init__"
                ):
                    yield Override(f"{file}:{inner.lineno}", known[base], inner.attr)


def environment_variables() -> dict[str, str]:
    """VLLM_* variables that our sources set or read, with the place."""
    return {
        node.value: f"{file}:{node.lineno}"
        for file, tree in our_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"VLLM_[A-Z0-9_]+", node.value)
    }
