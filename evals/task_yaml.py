"""lm-eval's task files as data: an index of names, and a task's fields with its includes. Runs no code of a task.

Does not import lm-eval: planning needs names and fields, and lm-eval's own index reads all its 14,000 files as YAML.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evals.errors import SuiteError
from evals.task_files import lm_eval_tasks

_NAME = re.compile(rb"^[\"']?(task|group)[\"']?:[ \t]*[\"']?([^\s\"'#\[\]{}]+)[\"']?[ \t]*(?:#.*)?\r?$", re.M)
_TAG = re.compile(rb"^[\"']?tag[\"']?:([^\r\n]*)\r?$((?:\n[ \t]*-[^\n]*)*)", re.M)
_MOST_INCLUDES = 20


@dataclass(frozen=True)
class FunctionReference:
    """A `!function` of a task file: Python that the task brings, by name."""

    name: str


@dataclass(frozen=True)
class TaskFile:
    """The file of a task, or of a group of tasks."""

    name: str
    path: Path
    root: Path
    is_group: bool


@dataclass(frozen=True)
class TaskLeaf:
    """A task with the fields that its groups replace."""

    file: TaskFile
    fields: dict[str, Any]
    overrides: dict[str, Any]
    read: tuple[Path, ...]

    @property
    def dataset(self) -> str:
        """Its data set as the task names it."""
        return str(self.fields.get("dataset_path") or "")


@dataclass
class TaskIndex:
    """Tasks, groups and tags by name, of lm-eval's folder and of a user's, whose names come first."""

    files: dict[str, TaskFile] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)

    def names_like(self, name: str) -> str:
        """Names that resemble one that is unknown, as the end of a sentence."""
        near = difflib.get_close_matches(name, [*self.files, *self.tags], n=3, cutoff=0.6)
        longer = sorted(n for n in self.files if n.startswith(name))[:3]
        hints = list(dict.fromkeys([*longer, *near]))[:4]
        return f"did you mean {' or '.join(hints)}?" if hints else "`lm-eval ls tasks` lists lm-eval's tasks."


def index_of(*folders: Path) -> TaskIndex:
    """The index of these folders; a later folder's names replace an earlier one's, as in lm-eval."""
    index = TaskIndex()
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            if "__pycache__" not in file.parts:
                _add(index, file, folder)
    return index


@functools.lru_cache(maxsize=1)
def lm_eval_index() -> TaskIndex:
    """The index of lm-eval's own tasks."""
    return index_of(lm_eval_tasks())


def with_folder(index: TaskIndex, folder: Path) -> TaskIndex:
    """An index with the tasks of a user's folder before its own."""
    own = index_of(folder)
    return TaskIndex({**index.files, **own.files}, {**index.tags, **own.tags})


def _add(index: TaskIndex, file: Path, root: Path) -> None:
    try:
        data = file.read_bytes()
    except OSError:
        return
    names = {kind: name.decode("utf-8", "replace") for kind, name in _NAME.findall(data)}
    name = names.get(b"group") or names.get(b"task")
    if name is None:
        return
    index.files[name] = TaskFile(name, file, root, b"group" in names)
    if b"group" in names:
        return
    for tag in _tags(data):
        index.tags.setdefault(tag, []).append(name)


def _tags(data: bytes) -> Iterator[str]:
    for first, rest in _TAG.findall(data):
        for part in re.split(rb"[\s,\[\]\"']+|(?:^|\n)[ \t]*-", first + rest):
            if part and part != b"-":
                yield part.decode("utf-8", "replace")


def read_task(path: Path, root: Path, seen: list[Path] | None = None) -> dict[str, Any]:
    """The fields of a task file with its includes; functions are `FunctionReference`s. `seen` collects the files.

    SuiteError where a file is not YAML, or includes one outside of `root`, which would not travel with the suite.
    """
    return _read(path.resolve(), root.resolve(), [] if seen is None else seen, 0)


def _read(path: Path, root: Path, seen: list[Path], depth: int) -> dict[str, Any]:
    if depth > _MOST_INCLUDES:
        raise SuiteError(f"The task file {path} includes itself; remove the circle.")
    if not path.is_relative_to(root):
        raise SuiteError(f"A task in {root} includes {path}, which is outside of that folder; copy it there.")
    seen.append(path)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SuiteError(f"The task file {path} holds no mapping of fields.")
    includes = data.pop("include", None)
    merged: dict[str, Any] = {}
    for include in includes if isinstance(includes, list) else [includes] if includes else []:
        merged |= _read((path.parent / str(include)).resolve(), root, seen, depth + 1)
    return merged | data


def read_yaml(path: Path) -> Any:
    """A task or suite file as data; SuiteError where it cannot be read or is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
    """PyYAML's safe loader with `!function` as a value."""


def _function(loader: Any, node: Any) -> FunctionReference:
    return FunctionReference(str(loader.construct_scalar(node)))


_Loader.add_constructor("!function", _function)


def python_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a task's fields runs Python: its functions, a class, and metrics of the `evaluate` library."""
    return tuple(dict.fromkeys(_python(fields)))


def _python(value: Any) -> Iterator[str]:
    match value:
        case FunctionReference(name=name):
            yield name
        case Mapping():
            if value.get("hf_evaluate"):
                yield f"metric {value.get('metric')}"
            if isinstance(value.get("class"), str):
                yield str(value["class"])
            for part in value.values():
                yield from _python(part)
        case list() | tuple():
            for part in value:
                yield from _python(part)
