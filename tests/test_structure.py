"""The shape of the four packages: no circles, no arrows upwards, few loose modules, one class per name.

`python -m tests.test_structure` prints the figures. Layers and libraries are import-linter's (pyproject.toml); it does not count
circles, and it passes over what is imported while a function runs.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("recipes", "evals", "orchestrator", "dashboard")
MOST_LOOSE_MODULES = 5
MOST_RECORDS_MODULES = 4
# recipes and evals are leaves that do not know each other; everything above takes that of evals.
ONE_PER_LEAF = {"Frozen": {"evals.engine", "recipes.tensor_file"}}

Graph = dict[str, set[str]]


@lru_cache
def trees() -> dict[str, ast.Module]:
    """Every module of the packages, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.Module, modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """The modules of ours that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)


@lru_cache
def graph() -> Graph:
    """Which modules each module imports, in functions and for type checking too."""
    modules = trees()
    return {name: set(imports(tree, modules)) - {name} for name, tree in modules.items()}


def circles(edges: Graph) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others (Tarjan's components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(edges[name]):
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def layers() -> dict[str, int]:
    """Rank of each part of the orchestrator, 0 at the top, as pyproject.toml has it."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configured["tool"]["importlinter"]["contracts"]
    (inside,) = (c["layers"] for c in contracts if c.get("containers") == ["orchestrator"])
    return {part.strip(): rank for rank, layer in enumerate(inside) for part in layer.split("|")}


def upward() -> list[str]:
    """Imports inside the orchestrator that do not go to a lower layer."""
    ranks = layers()
    arrows = ((name, target) for name, targets in graph().items() for target in sorted(targets))
    return [
        f"{name} -> {target}"
        for name, target in arrows
        if (ours := _part(name))
        and (theirs := _part(target))
        and ours != theirs
        and ranks[theirs] <= ranks[ours]
    ]


def _part(name: str) -> str | None:
    """The part of the orchestrator that a module is in."""
    package, _, inside = name.partition(".")
    return inside.partition(".")[0] if package == "orchestrator" and inside else None


def loose() -> list[str]:
    """Modules at the root of orchestrator/."""
    return sorted(path.name for path in (ROOT / "orchestrator").glob("*.py") if path.name != "__init__.py")


def named_twice() -> dict[str, list[str]]:
    """Names of classes that more than one module defines."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(name)
    return {
        name: modules
        for name, modules in where.items()
        if len(modules) > 1 and set(modules) != ONE_PER_LEAF.get(name)
    }


def records_modules() -> list[str]:
    """Modules called records."""
    return [name for name in trees() if name.endswith(".records")]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(graph()) == []


def test_circles_are_seen() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "e"}, "e": {"f"}, "f": {"d"}}
    assert circles(edges) == [["b", "c"], ["d", "e", "f"]]


def test_imports_inside_the_orchestrator_go_one_way() -> None:
    assert upward() == []


def test_the_root_of_the_orchestrator_is_small() -> None:
    assert len(loose()) <= MOST_LOOSE_MODULES, loose()


def test_a_class_name_stands_for_one_class() -> None:
    assert named_twice() == {}


def test_few_modules_are_called_records() -> None:
    assert len(records_modules()) <= MOST_RECORDS_MODULES, records_modules()


if __name__ == "__main__":
    print("circles:", circles(graph()))
    print("arrows upwards inside the orchestrator:", upward())
    print("modules at its root:", loose())
    print("class names defined twice:", named_twice())
    print("modules called records:", records_modules())
