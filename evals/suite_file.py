"""Suites that a user names: a shipped name, a file, a folder of task files, or lm-eval tasks and groups.

What comes out is a value: the definition holds the user's files as text, so that a node needs none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from evals.engine import Frozen
from evals.errors import SuiteError
from evals.suite import FILES_PREFIX, Aggregation, Suite, define_suite, defined_names, load_suite, suite_names
from evals.suite_of_tasks import folder_tasks, suite_of_tasks, travelling_files
from evals.task_yaml import read_yaml

_SUFFIXES = (".yaml", ".yml")


class SuiteRequest(Frozen):
    """What a user names as a suite."""

    suite: str | None = Field(default=None, description="Name, file or folder of a suite, or a task's name.")
    tasks: tuple[str, ...] = Field(default=(), description="lm-eval tasks and groups by name.")
    include: str | None = Field(default=None, description="Folder of the user's own task files.")
    allow_code: tuple[str, ...] = Field(default=(), description="Tasks whose own Python may run.")
    name: str | None = Field(
        default=None, description="Name of the suite; by default that of the file or tasks."
    )


def resolve_suite(request: SuiteRequest, folder: Path) -> Suite:
    """The suite of a request, and known in this process from now on; `folder` is what paths are relative to.

    Raises SuiteError for unknown names, invalid files and code that was not allowed.
    """
    suite = _resolve(request, folder)
    if suite.name not in suite_names():
        define_suite(suite)
    elif suite != load_suite(suite.name):
        raise SuiteError(f"'{suite.name}' is the name of a shipped suite; give your suite another `name`.")
    return suite


def _resolve(request: SuiteRequest, folder: Path) -> Suite:
    include = _folder(folder / request.include) if request.include else None
    if request.tasks:
        name = request.name or _joined(request.tasks)
        return suite_of_tasks(request.tasks, name=name, include=include, allow_code=request.allow_code)
    text = request.suite or ""
    path = (folder / text).expanduser()
    if path.suffix in _SUFFIXES and path.is_file():
        return read_suite_file(path, request.allow_code, request.name)
    if text in suite_names():
        return load_suite(text)
    if path.is_dir():
        name = request.name or path.resolve().name
        return suite_of_tasks(folder_tasks(path), name=name, include=path, allow_code=request.allow_code)
    if path.suffix in _SUFFIXES:
        raise SuiteError(
            f"There is no suite file {path}; `mergeboard suite init {text} --tasks TASK` writes one."
        )
    try:
        return suite_of_tasks(
            [text], name=request.name or text, include=include, allow_code=request.allow_code
        )
    except SuiteError as error:
        if "There is no lm-eval task" not in str(error):
            raise
        if text in defined_names():  # of an earlier run, whose file is not here
            return load_suite(text)
        known = ", ".join(suite_names())
        raise SuiteError(
            f"There is no suite, file, folder or lm-eval task '{text}'; the suites are {known}. {str(error).partition('; ')[2]}"
        ) from error


def read_suite_file(path: Path, allow_code: Collection[str] = (), name: str | None = None) -> Suite:
    """A user's suite from its file: full benchmarks, or only `tasks` of lm-eval; or the suite of one task file."""
    data = _read(path)
    allowed = {*allow_code, *_texts(data.pop("allow_code", ()), path, "allow_code")}
    include = path.parent / str(data.pop("include")) if "include" in data and "benchmarks" in data else None
    if isinstance(data.get("task"), str) or ("group" in data and "benchmarks" not in data):
        task = str(data.get("group") or data.get("task"))
        return suite_of_tasks([task], name=name or task, include=path.parent, allow_code=allowed)
    if "benchmarks" not in data and "tasks" in data:
        tasks = _texts(data["tasks"], path, "tasks")
        folder = path.parent / str(data["include"]) if data.get("include") else None
        of_tasks = suite_of_tasks(
            tasks,
            name=name or str(data.get("name") or path.stem),
            include=_folder(folder) if folder else None,
            allow_code=allowed,
        )
        rest = {k: v for k, v in data.items() if k not in ("tasks", "include", "name", "weights")}
        definition = of_tasks.model_dump(mode="json")
        if data.get("weights"):
            _add_weights(definition["benchmarks"], data["weights"], path)
        return _validated(definition | rest, path)
    if "benchmarks" not in data:
        raise SuiteError(
            f"{path} holds no suite: give `tasks: [TASK, ...]`, or full `benchmarks` as `mergeboard suite init` writes them."
        )
    data = {"name": path.stem, "settings": {}} | data
    data = {"title": data["name"]} | data | ({"name": name} if name else {})
    benchmarks = data["benchmarks"] if isinstance(data["benchmarks"], list) else []
    for benchmark in benchmarks:
        if isinstance(benchmark, dict) and str(benchmark.get("tasks", "")).startswith(FILES_PREFIX):
            _add_files(benchmark, path, include, allowed)
    return _validated(data, path)


def _add_weights(benchmarks: list[dict[str, Any]], weights: Any, path: Path) -> None:
    """Put weights of tasks into the columns of their groups, which become weighted means over subsets."""
    if not isinstance(weights, dict):
        raise SuiteError(f"Suite file {path}: weights: give a mapping of tasks to numbers.")
    left = dict(weights)
    for benchmark in benchmarks:
        tasks = [subset["task"] for subset in benchmark["subsets"]]
        if len(tasks) > 1 and any(task in left for task in tasks):
            benchmark["weights"] = {task: left.pop(task) for task in tasks if task in left}
            benchmark["aggregation"] = Aggregation.SUBSET_MEAN
    if left:
        raise SuiteError(
            f"Suite file {path}: weights: '{next(iter(left))}' is no subset of a group of `tasks`; name the group, "
            "or give full `benchmarks` with subsets as `mergeboard suite init` writes them."
        )


def _add_files(benchmark: dict[str, Any], path: Path, include: Path | None, allowed: Collection[str]) -> None:
    """Put the user's task files into a benchmark that names them."""
    if include is None:
        raise SuiteError(
            f"{path} has a benchmark with `tasks: '{FILES_PREFIX}'` and no `include:`, the folder of its task files."
        )
    tasks = [str(s.get("task")) for s in benchmark.get("subsets") or () if isinstance(s, dict)]
    data, code = travelling_files(tasks, _folder(include), allowed)
    dataset = benchmark.get("dataset")
    if isinstance(dataset, dict) and data.dataset.files:
        dataset["files"] = data.dataset.files
        for subset in benchmark["subsets"]:
            subset["files"] = data.of_task.get(str(subset.get("task")), {})
    benchmark |= {"files": data.files, "code": code}


def _read(path: Path) -> dict[str, Any]:
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SuiteError(f"{path} holds no suite: a suite file is a mapping with `tasks` or `benchmarks`.")
    return dict(data)


def _validated(data: dict[str, Any], path: Path) -> Suite:
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SuiteError(f"Suite file {path}: {where}: {message}; correct the field.") from error


def _texts(value: Any, path: Path, field: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise SuiteError(f"Suite file {path}: {field}: give a list of task names.")
    return list(values)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise SuiteError(f"There is no folder {path}; give the folder of your task files.")
    return path


def _joined(tasks: Sequence[str]) -> str:
    """A name for a suite of these tasks."""
    return tasks[0] if len(tasks) == 1 else f"{tasks[0]}+{len(tasks) - 1}"
