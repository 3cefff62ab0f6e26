"""The Python sources of a vLLM that is installed or in a wheel, read without running them."""

from __future__ import annotations

import ast
import copy
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class Missing(LookupError):
    """A module, name, parameter or attribute is not in the sources."""


@dataclass(frozen=True)
class Definition:
    """A class, function or other top-level name, and the module that defines it."""

    module: str
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.stmt

    @property
    def place(self) -> str:
        return f"{self.module}.{getattr(self.node, 'name', '?')}"


class Sources:
    """Modules of the package `vllm` below a folder, or in a wheel."""

    def __init__(self, root: Path) -> None:
        self._wheel = zipfile.ZipFile(root) if root.is_file() else None
        self._root = root
        self._changes: dict[str, bytes] = {}
        self._trees: dict[str, ast.Module] = {}
        if self._wheel:
            self.files = {n for n in self._wheel.namelist() if n.startswith("vllm/") and n.endswith(".py")}
        else:
            self.files = {str(f.relative_to(root)) for f in (root / "vllm").rglob("*.py")}

    def text(self, file: str) -> bytes:
        """The bytes of a file, named from the folder that holds `vllm`."""
        if file in self._changes:
            return self._changes[file]
        return self._wheel.read(file) if self._wheel else (self._root / file).read_bytes()

    def module_file(self, module: str) -> str | None:
        """The file of a module, or null."""
        path = module.replace(".", "/")
        return next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in self.files), None)

    def changed(self, file: str, text: bytes | None) -> Sources:
        """The same sources with another text of one file, or without it."""
        other = copy.copy(self)
        other._changes = {**self._changes, **({} if text is None else {file: text})}
        other.files = self.files if text is not None else self.files - {file}
        other._trees = {m: tree for m, tree in self._trees.items() if self.module_file(m) != file}
        return other

    def tree(self, module: str) -> ast.Module:
        """The parsed module; raises Missing."""
        if module not in self._trees:
            file = self.module_file(module)
            if file is None:
                raise Missing(f"there is no module {module}")
            self._trees[module] = ast.parse(self.text(file))
        return self._trees[module]

    def find(self, module: str, name: str, _seen: tuple[str, ...] = ()) -> Definition:
        """Where a module's name is defined, through imports of other modules of vLLM; raises Missing."""
        for node in _top_level(self.tree(module)):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name in (name, "*") or alias.asname == name:
                        origin = self._origin(module, node)
                        if origin and origin not in _seen and alias.asname in (None, name):
                            try:
                                return self.find(origin, name, (*_seen, module))
                            except Missing:
                                continue
            elif name in _defined(node):
                return Definition(module, node)
        if self.module_file(f"{module}.{name}"):
            return Definition(f"{module}.{name}", ast.Pass())
        raise Missing(f"{module} has no {name}")

    def _origin(self, module: str, node: ast.ImportFrom) -> str | None:
        if not node.level:
            return node.module if (node.module or "").split(".")[0] == "vllm" else None
        is_package = (self.module_file(module) or "").endswith("__init__.py")
        parts = module.split(".")
        base = parts[: len(parts) - node.level + is_package]
        return ".".join([*base, *((node.module or "").split(".") if node.module else [])])

    def lineage(self, definition: Definition) -> Iterator[Definition]:
        """The class and its bases, as far as vLLM defines them; the class itself first."""
        yield definition
        if isinstance(definition.node, ast.ClassDef):
            for base in definition.node.bases:
                name = base.value if isinstance(base, ast.Subscript) else base
                if isinstance(name, ast.Name):
                    try:
                        yield from self.lineage(self.find(definition.module, name.id))
                    except Missing:
                        continue

    def members(self, definition: Definition) -> set[str]:
        """Attributes of a class: fields, methods and properties, and what its methods set on `self`."""
        return {name for base in self.lineage(definition) for name in _members(base.node)}

    def parameters(self, definition: Definition) -> Parameters:
        """Of a function, or of making an instance of a class (`__init__`, else its fields); raises Missing."""
        if isinstance(definition.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return Parameters.of(definition.node, bound=False)
        for base in self.lineage(definition):
            made = _method(base.node, "__init__") or _method(base.node, "__new__")
            if made:
                return Parameters.of(made, bound=True)
        fields: dict[str, bool] = {}
        for base in reversed(list(self.lineage(definition))):
            fields |= _fields(base.node)
        if not fields:
            raise Missing(f"{definition.place} has neither __init__ nor fields")
        return Parameters(tuple(fields), frozenset(n for n, needed in fields.items() if needed), False, False)

    def method(self, definition: Definition, name: str) -> Parameters:
        """Parameters of a method, its own or inherited, without `self`; raises Missing."""
        for base in self.lineage(definition):
            node = _method(base.node, name)
            if node:
                return Parameters.of(node, bound=True)
        raise Missing(f"{definition.place} has no method {name}")


@dataclass(frozen=True)
class Parameters:
    """What a call may give and must give."""

    names: tuple[str, ...]
    needed: frozenset[str]
    takes_more: bool
    takes_any_name: bool
    keyword_only: frozenset[str] = frozenset()

    @classmethod
    def of(cls, node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> Parameters:
        """Of a function definition; a bound one's first parameter is not given by its callers."""
        static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        plain = [*node.args.posonlyargs, *node.args.args][bound and not static :]
        required = plain[: len(plain) - len(node.args.defaults)] if node.args.defaults else plain
        only = dict(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
        return cls(
            names=tuple(a.arg for a in (*plain, *only)),
            needed=frozenset(
                [*(a.arg for a in required), *(a.arg for a, value in only.items() if value is None)]
            ),
            takes_more=node.args.vararg is not None,
            takes_any_name=node.args.kwarg is not None,
            keyword_only=frozenset(a.arg for a in only),
        )

    def refuses(self, positional: int, named: set[str], *, complete: bool = True) -> str | None:
        """Why a call with these arguments fails; null where it does not. An incomplete call has more that is not known."""
        places = [name for name in self.names if name not in self.keyword_only]
        if positional > len(places) and not self.takes_more:
            return f"takes {len(places)} positional arguments, not {positional}"
        unknown = sorted(named - set(self.names))
        if unknown and not self.takes_any_name:
            return f"has no parameter {', '.join(unknown)}"
        left_out = sorted(self.needed - named - set(places[:positional]))
        return f"needs {', '.join(left_out)}" if left_out and complete else None


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import, in the branches of `if` and `try` too."""
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop(0)
        if isinstance(node, ast.If | ast.Try):
            handlers = [s for h in getattr(node, "handlers", []) for s in h.body]
            stack[:0] = [*node.body, *node.orelse, *handlers]
        else:
            yield node


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {t.id for t in targets if isinstance(t, ast.Name)}


def _method(node: ast.stmt, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    body = node.body if isinstance(node, ast.ClassDef) else []
    methods = [s for s in body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef) and s.name == name]
    return methods[-1] if methods else None


def _fields(node: ast.stmt) -> dict[str, bool]:
    """Annotated fields of a class body, and whether each must be given."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    return {
        s.target.id: s.value is None
        for s in body
        if isinstance(s, ast.AnnAssign)
        and isinstance(s.target, ast.Name)
        and "ClassVar" not in ast.unparse(s.annotation)
    }


def _members(node: ast.stmt) -> Iterator[str]:
    if not isinstance(node, ast.ClassDef):
        return
    for statement in node.body:
        yield from _defined(statement)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (
                inner.attr
                for inner in ast.walk(statement)
                if isinstance(inner, ast.Attribute)
                and isinstance(inner.ctx, ast.Store)
                and isinstance(inner.value, ast.Name)
                and inner.value.id == "self"
            )
