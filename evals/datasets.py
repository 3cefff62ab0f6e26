"""Locates a benchmark's documents: shipped, in a mirror of the hub, or in the hub's cache. Never goes online."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from evals.benchmark import OWN_TASKS_DIR, Benchmark
from evals.engine import Frozen, digest_of
from evals.errors import DatasetChanged, DatasetError
from evals.task_files import files_folder

DATA_SUFFIXES = (".parquet", ".csv", ".jsonl", ".json", ".arrow", ".zip", ".gz", ".zst")


class DatasetState(StrEnum):
    """Availability of a benchmark's documents."""

    AVAILABLE = "available"
    MISSING = "missing"
    GATED = "gated"
    """Missing, and the hub requires an account that has accepted its terms."""


class DatasetStatus(Frozen):
    """Availability of a benchmark's documents on this machine."""

    benchmark: str = Field(description="Benchmark of the suite.")
    dataset: str = Field(description="Data set repository on the hub, or the shipped folder.")
    state: DatasetState = Field(description="Whether the documents are available.")
    location: Path | None = Field(description="Folder of the documents; null if they are not available.")
    command: str | None = Field(description="Command that downloads them; null if they are available.")
    reason: str | None = Field(
        default=None, description="What is missing, in one sentence; null if nothing is."
    )


class DataOnNode(Frozen):
    """A benchmark's data on one machine, for comparison between machines."""

    benchmark: str = Field(description="Benchmark of the suite.")
    dataset: str = Field(description="Data set repository on the hub, or the shipped folder.")
    digest: str | None = Field(description="Digest of the data files; null if they are not available.")
    reason: str | None = Field(description="What is missing, in one sentence; null if nothing is.")
    command: str | None = Field(description="Command that downloads the data; null if it is available.")


def check(benchmark: Benchmark, mirror: Path | None, home: Path | None = None) -> DatasetStatus:
    """Look for the documents; `home` is Hugging Face's folder, by default $HF_HOME."""
    dataset = benchmark.dataset
    if dataset.files:
        return DatasetStatus(
            benchmark=benchmark.name,
            dataset=dataset.path,
            state=DatasetState.AVAILABLE,
            location=files_folder(benchmark),
            command=None,
        )
    if dataset.shipped:
        places = [OWN_TASKS_DIR / dataset.path]
    else:
        places = ([mirror / dataset.path] if mirror else []) + _snapshots(home or _hf_home(), dataset.path)
    problems = []
    for place in places:
        problem = _problem(place, benchmark)
        if problem is None:
            return DatasetStatus(
                benchmark=benchmark.name,
                dataset=dataset.path,
                state=DatasetState.AVAILABLE,
                location=place,
                command=None,
            )
        problems.append(problem)
    return DatasetStatus(
        benchmark=benchmark.name,
        dataset=dataset.path,
        state=DatasetState.GATED if dataset.gated else DatasetState.MISSING,
        location=None,
        command=_command(benchmark, mirror),
        reason=_reason(benchmark, mirror, problems),
    )


def find_dataset(benchmark: Benchmark, mirror: Path | None, home: Path | None = None) -> Path:
    """The folder of the documents; DatasetError with the download command if they are not available."""
    status = check(benchmark, mirror, home)
    if status.location is None:
        raise DatasetError(f"{status.reason} Get it with: {status.command}")
    return status.location


def data_of(benchmark: Benchmark, mirror: Path | None) -> DataOnNode:
    """Availability and digest of a benchmark's data on this machine; reads every byte of it."""
    status = check(benchmark, mirror)
    return DataOnNode(
        benchmark=benchmark.name,
        dataset=status.dataset,
        digest=None if status.location is None else content_digest(status.location, benchmark),
        reason=status.reason,
        command=status.command,
    )


def _reason(benchmark: Benchmark, mirror: Path | None, problems: list[str]) -> str:
    path = benchmark.dataset.path
    where = f"the mirror {mirror} or the hub's cache" if mirror else "the hub's cache"
    gate = (
        f" It is gated: accept its terms at https://huggingface.co/datasets/{path} first."
        if benchmark.dataset.gated
        else ""
    )
    details = f" ({'; '.join(problems)})" if problems else ""
    return f"Benchmark '{benchmark.name}' needs the data set {path}, which is not in {where}{details}.{gate}"


def _command(benchmark: Benchmark, mirror: Path | None) -> str:
    path = benchmark.dataset.path
    login = "hf auth login && " if benchmark.dataset.gated and not os.environ.get("HF_TOKEN") else ""
    into = f" --local-dir {mirror / path}" if mirror else ""
    return f"{login}hf download --repo-type dataset {path}{into}"


def _problem(folder: Path, benchmark: Benchmark) -> str | None:
    """Why the folder cannot serve the benchmark; None if it can."""
    if not folder.is_dir():
        return f"{folder} is not there"
    names = sorted(
        f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.name.endswith(DATA_SUFFIXES)
    )
    if not names:
        return f"{folder} has no data files"
    declared = _declared(folder / "README.md")
    for config in sorted({s.data for s in benchmark.subsets if s.data}):
        if declared and config not in declared:
            return f"{folder} has no configuration {config}"
        for pattern in declared.get(config, ()):
            if not any(fnmatch.fnmatch(name, pattern.removeprefix("./")) for name in names):
                return f"{folder} lacks {pattern}"
    return None


def _declared(readme: Path) -> dict[str, list[str]]:
    """File patterns by configuration, as declared in a data set's README.md."""
    return {str(c.get("config_name", "default")): _patterns(c.get("data_files")) for c in _configs(readme)}


def _configs(readme: Path) -> list[dict[str, Any]]:
    """The configurations that a data set's README.md declares."""
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    parts = text.split("\n---", 1)
    if not text.startswith("---") or len(parts) < 2:
        return []
    try:
        data = yaml.load(parts[0].removeprefix("---"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return []
    configs = data.get("configs") if isinstance(data, dict) else None
    return [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []


def _patterns(data_files: Any) -> list[str]:
    if isinstance(data_files, str):
        return [data_files]
    if isinstance(data_files, dict):
        return _patterns(data_files["path"]) if "path" in data_files else _patterns(list(data_files.values()))
    return [p for entry in data_files or () for p in _patterns(entry)]


def _hf_home() -> Path:
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")


def _snapshots(home: Path, path: str) -> list[Path]:
    """Downloads of the data set in the hub's cache, newest first."""
    cache = (
        Path(os.environ["HF_HUB_CACHE"])
        if "HF_HUB_CACHE" in os.environ and home == _hf_home()
        else home / "hub"
    )
    folder = cache / f"datasets--{path.replace('/', '--')}" / "snapshots"
    return sorted(folder.glob("*"), key=lambda f: f.stat().st_mtime, reverse=True) if folder.is_dir() else []


def content_digest(location: Path, benchmark: Benchmark) -> str:
    """First 16 hex digits of a sha256 over the data that the benchmark's tasks read.

    It covers the names and bytes of the files of the subsets' configurations, and README.md's mapping of files to splits;
    every data file if the README has no mapping. Other configurations and prose do not count.
    """
    if benchmark.dataset.files:
        texts: dict[str, Any] = _texts(benchmark, benchmark.dataset.files)
        own = {subset.task: _texts(benchmark, subset.files) for subset in benchmark.subsets if subset.files}
        return digest_of(texts | ({"of tasks": own} if own else {}))
    digest = hashlib.sha256()
    mapping = _mapping(location / "README.md", benchmark)
    digest.update(json.dumps(mapping, sort_keys=True).encode())
    for name in _data_files(location, mapping):
        digest.update(name.encode())
        digest.update(_file_sha256(location / name, _file_state(location / name)))
    return digest.hexdigest()[:16]


def _texts(benchmark: Benchmark, files: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Split -> texts of data files that travel with a benchmark."""
    return {split: [benchmark.files[name] for name in names] for split, names in files.items()}


def require_content(location: Path, benchmark: Benchmark, planned: str) -> None:
    """Raise DatasetChanged if the data differs from what was planned, DatasetError if it cannot be read."""
    try:
        present = content_digest(location, benchmark)
    except OSError as error:
        raise DatasetError(
            f"The data in {location} cannot be read ({error.strerror}): get {benchmark.dataset.path} again."
        ) from error
    if present != planned:
        raise DatasetChanged(
            f"The data of benchmark '{benchmark.name}' in {location} is not what was planned (digest {present}, planned "
            f"{planned}): give every node the same data set, or run the plan again."
        )


def _mapping(readme: Path, benchmark: Benchmark) -> dict[str, Any]:
    """README.md's declarations of the configurations that the benchmark's subsets name; of all if it names none of them."""
    names = {subset.data or "default" for subset in benchmark.subsets}
    configs = {str(config.get("config_name", "default")): config for config in _configs(readme)}
    used = {name: config for name, config in configs.items() if name in names}
    return used or configs


def _data_files(location: Path, mapping: dict[str, Any]) -> list[str]:
    names = sorted(
        file.relative_to(location).as_posix()
        for file in location.rglob("*")
        if file.name.endswith(DATA_SUFFIXES) and file.is_file()
    )
    patterns = [
        p.removeprefix("./") for config in mapping.values() for p in _patterns(config.get("data_files"))
    ]
    selected = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    return selected or names


def data_patterns(readme: Path, benchmark: Benchmark) -> list[str]:
    """Patterns of the data files that a benchmark's tasks read, as a data set's README declares them; empty if it does not."""
    mapping = _mapping(readme, benchmark)
    return [p.removeprefix("./") for config in mapping.values() for p in _patterns(config.get("data_files"))]


def _file_state(file: Path) -> tuple[int, int, int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@functools.lru_cache(maxsize=4096)
def _file_sha256(file: Path, _file_state: tuple[int, int, int, int]) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
