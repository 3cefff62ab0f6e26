"""Digest of a benchmark's task definitions: lm-eval's files or mergeboard's. Does not import lm-eval."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from evals.errors import SuiteError
from evals.suite import OWN_PREFIX, OWN_TASKS_DIR, Benchmark

_SUFFIXES = (".yaml", ".yml", ".py", ".json", ".jsonl", ".txt")


def task_folder(benchmark: Benchmark) -> Path:
    """Folder of the benchmark's task files; SuiteError if it is missing."""
    is_shipped = benchmark.tasks.startswith(OWN_PREFIX)
    root = OWN_TASKS_DIR if is_shipped else lm_eval_tasks()
    folder = root / benchmark.tasks.removeprefix(OWN_PREFIX)
    if not folder.is_dir():
        raise SuiteError(f"Benchmark '{benchmark.name}' names the task folder {folder}, which is not there.")
    return folder


@functools.cache
def lm_eval_tasks() -> Path:
    """The folder of lm-eval's task files."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise SuiteError("lm-eval is not installed here: run `make setup`.")
    return Path(spec.submodule_search_locations[0]) / "tasks"


def task_digest(benchmark: Benchmark) -> str:
    """First 16 hex digits of a sha256 over the files of the task folder and the modules of `functions` and `prepare`."""
    folder = task_folder(benchmark)
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and "__pycache__" not in path.parts
    }
    for dotted in (*benchmark.functions.values(), *([benchmark.prepare] if benchmark.prepare else [])):
        module = dotted.rpartition(".")[0].removeprefix("evals.tasks.")
        files[f"evals.tasks.{module}"] = OWN_TASKS_DIR / f"{module.replace('.', '/')}.py"
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name} {_sha256(path, path.stat().st_mtime_ns, path.stat().st_ctime_ns)}\n".encode())
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, _mtime_ns: int, _ctime_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
