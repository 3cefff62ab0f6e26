"""Digest of a benchmark's task definitions: lm-eval's files or mergeboard's. Does not import lm-eval."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from evals.benchmark import FILES_PREFIX, OWN_PREFIX, OWN_TASKS_DIR, Benchmark
from evals.engine import digest_of
from evals.errors import SuiteError

_SUFFIXES = (".yaml", ".yml", ".py", ".json", ".jsonl", ".txt")


def task_folder(benchmark: Benchmark) -> Path:
    """Folder of the benchmark's task files; SuiteError if it is missing."""
    if benchmark.tasks.startswith(FILES_PREFIX):
        return files_folder(benchmark)
    is_shipped = benchmark.tasks.startswith(OWN_PREFIX)
    root = OWN_TASKS_DIR if is_shipped else lm_eval_tasks()
    folder = root / benchmark.tasks.removeprefix(OWN_PREFIX)
    if not folder.is_dir():
        raise SuiteError(f"Benchmark '{benchmark.name}' names the task folder {folder}, which is not there.")
    return folder


def files_folder(benchmark: Benchmark) -> Path:
    """A private folder on this machine with the files that travel with the definition; written once per content."""
    digest = digest_of(dict(benchmark.files))
    root = Path(tempfile.gettempdir()) / f"mergeboard-tasks-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise SuiteError(f"{root} belongs to another user; set TMPDIR to a folder of your own.")
    folder = root / digest
    if not folder.is_dir() or any(
        not (folder / name).is_file() or (folder / name).read_bytes() != text.encode()
        for name, text in benchmark.files.items()
    ):
        made = Path(tempfile.mkdtemp(dir=root))
        for name, text in benchmark.files.items():
            path = made / name
            if not path.resolve().is_relative_to(made.resolve()):
                raise SuiteError(f"A suite's file is called {name!r}, which is outside of its folder.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
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
    if benchmark.tasks.startswith(FILES_PREFIX):
        return digest_of(dict(benchmark.files))
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
