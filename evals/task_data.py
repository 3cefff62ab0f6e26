"""Where the data of tasks comes from: a data set of the hub, or text files beside a user's task, which travel with the suite."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmark import Dataset
from evals.errors import SuiteError
from evals.task_yaml import TaskLeaf, python_of

MAX_FILES_BYTES = 8_000_000
"""Most bytes of task and data files that travel with a benchmark."""

_LOADERS = ("json", "csv", "text")
_BINARY_LOADERS = ("parquet", "arrow", "pandas", "webdataset", "xml")


@dataclass(frozen=True)
class TaskData:
    """The data set of a benchmark's tasks, and the task and data files that travel with it as text, by relative path."""

    dataset: Dataset
    files: dict[str, str]
    of_task: dict[str, dict[str, tuple[str, ...]]]
    """Split -> data files of the tasks that have others than `dataset`."""


def dataset_of(leaves: Sequence[TaskLeaf], own: bool) -> TaskData:
    """Where the data of these tasks is; SuiteError if it cannot travel or they read several data sets."""
    first = leaves[0]
    paths = {leaf.dataset for leaf in leaves}
    if paths == {""}:
        raise SuiteError(
            f"The task '{first.file.name}' names no dataset_path, so that its data cannot be checked."
        )
    if len(paths) > 1:
        raise SuiteError(
            f"The tasks of '{first.file.name}' read several data sets ({', '.join(sorted(paths)[:3])})."
        )
    if not own:
        return TaskData(Dataset(path=first.dataset), {}, {})
    if first.dataset in _BINARY_LOADERS or (first.file.path.parent / first.dataset).is_dir():
        raise SuiteError(
            f"The data of '{first.file.name}' ({first.dataset}) is neither text nor a data set of the hub, so that it cannot travel with the "
            "suite: put it into a folder ORG/NAME of MERGEBOARD_DATASETS on every node, and name that as dataset_path."
        )
    root = first.file.root.resolve()
    files = {path for leaf in leaves for path in leaf.read}
    if any(python_of(leaf.fields) for leaf in leaves):
        files |= {path for path in root.rglob("*.py") if "__pycache__" not in path.parts}
    dataset = Dataset(path=first.dataset)
    by_task: dict[str, dict[str, tuple[str, ...]]] = {}
    if first.dataset in _LOADERS:
        by_task = {leaf.file.name: _data_files(leaf) for leaf in leaves}
        files |= {root / name for of in by_task.values() for names in of.values() for name in names}
        dataset = Dataset(path=first.dataset, files=by_task[first.file.name])
    _require_size(files)
    return TaskData(
        dataset,
        {str(path.relative_to(root)): _text(path) for path in sorted(files)},
        {task: splits for task, splits in by_task.items() if splits != dataset.files},
    )


def _data_files(leaf: TaskLeaf) -> dict[str, tuple[str, ...]]:
    """Split -> data files below the task's folder, relative to it; as `data_files` of a task names them."""
    given = (leaf.fields.get("dataset_kwargs") or {}).get("data_files")
    by_split = given if isinstance(given, dict) else {"train": given}
    root = leaf.file.root.resolve()
    return {
        str(split): tuple(str(_data_file(leaf, str(name), root).relative_to(root)) for name in _listed(names))
        for split, names in by_split.items()
    }


def _listed(names: Any) -> list[Any]:
    return list(names) if isinstance(names, list) else [names]


def _data_file(leaf: TaskLeaf, name: str, root: Path) -> Path:
    """A data file of a task: beside the task's file, else relative to the current folder as in lm-eval."""
    for place in (leaf.file.path.parent / name, Path(name)):
        if place.is_file() and place.resolve().is_relative_to(root):
            return place.resolve()
    raise SuiteError(
        f"The data file {name!r} of the task '{leaf.file.name}' is not below {root}; put it beside the task's file, so that it travels with "
        "the suite."
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise SuiteError(
            f"{path} is not UTF-8 text and cannot travel with the suite: give it as JSON, CSV or text."
        ) from error


def _require_size(files: Collection[Path]) -> None:
    size = sum(path.stat().st_size for path in files)
    if size > MAX_FILES_BYTES:
        raise SuiteError(
            f"The files of a task have {size:,} bytes, more than the {MAX_FILES_BYTES:,} that travel with a suite: put the data into a "
            "folder ORG/NAME of MERGEBOARD_DATASETS on every node, and name it as dataset_path."
        )
