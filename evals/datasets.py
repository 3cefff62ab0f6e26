"""Where a benchmark's documents are: shipped, in a mirror of the hub, or in the hub's cache. Quick, and never online."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from evals.engine import Frozen, digest_of
from evals.errors import DatasetError
from evals.suite import OWN_TASKS_DIR, Benchmark

DATA_SUFFIXES = (".parquet", ".csv", ".jsonl", ".json", ".arrow", ".zip", ".gz", ".zst")


class DatasetState(StrEnum):
    """Whether a benchmark's documents are at hand."""

    AVAILABLE = "available"
    MISSING = "missing"
    GATED = "gated"
    """Missing, and the hub gives it only to an account that has accepted its terms."""


class DatasetStatus(Frozen):
    """What is known about a benchmark's documents without going online."""

    benchmark: str = Field(description="Benchmark of the suite.")
    dataset: str = Field(description="Data set repository on the hub, or the shipped folder.")
    state: DatasetState = Field(description="Whether the documents are at hand.")
    location: Path | None = Field(description="Folder they are in; null where they are not at hand.")
    command: str | None = Field(description="Command that gets them; null where they are at hand.")
    reason: str | None = Field(
        default=None, description="One sentence on what is missing; null where nothing is."
    )


class DataOnNode(Frozen):
    """A benchmark's data as a process on one machine reads it, to be compared with what another machine reads."""

    benchmark: str = Field(description="Benchmark of the suite.")
    dataset: str = Field(description="Data set repository on the hub, or the shipped folder.")
    digest: str | None = Field(description="Digest of the data files; null where they are not at hand.")
    reason: str | None = Field(description="What is missing, in one sentence; null where nothing is.")
    command: str | None = Field(description="Command that gets the data; null where it is at hand.")


def check(benchmark: Benchmark, mirror: Path | None, home: Path | None = None) -> DatasetStatus:
    """Looks for the documents; `home` is Hugging Face's folder, by default the environment's HF_HOME."""
    dataset = benchmark.dataset
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


def find(benchmark: Benchmark, mirror: Path | None, home: Path | None = None) -> Path:
    """The folder of the documents; an error that says how to get them where they are not at hand."""
    status = check(benchmark, mirror, home)
    if status.location is None:
        raise DatasetError(f"{status.reason} Get it with: {status.command}")
    return status.location


def data_of(benchmark: Benchmark, mirror: Path | None) -> DataOnNode:
    """What this machine has of a benchmark's data; reads every byte of it."""
    status = check(benchmark, mirror)
    return DataOnNode(
        benchmark=benchmark.name,
        dataset=status.dataset,
        digest=None if status.location is None else content_digest(status.location),
        reason=status.reason,
        command=status.command,
    )


def cache_key(location: Path) -> str:
    """Identity of a folder's present contents, by names, sizes and times.

    `datasets` keeps what it has prepared under the folder's last name and the patterns in its README.md alone: another
    mirror, or a file that was replaced, would be answered with what an earlier one held. A cache folder of this name
    keeps them apart.
    """
    found = sorted(f for f in location.rglob("*") if f.is_file())
    lines = [f"{f.relative_to(location)} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in found]
    return digest_of([str(location.resolve()), *lines])


def _reason(benchmark: Benchmark, mirror: Path | None, problems: list[str]) -> str:
    path = benchmark.dataset.path
    where = f"the mirror {mirror} or the hub's cache" if mirror else "the hub's cache"
    gate = (
        f" It is gated: accept its terms at https://huggingface.co/datasets/{path} first."
        if benchmark.dataset.gated
        else ""
    )
    found = f" ({'; '.join(problems)})" if problems else ""
    return f"Benchmark '{benchmark.name}' needs the data set {path}, which is not in {where}{found}.{gate}"


def _command(benchmark: Benchmark, mirror: Path | None) -> str:
    path = benchmark.dataset.path
    login = "hf auth login && " if benchmark.dataset.gated and not os.environ.get("HF_TOKEN") else ""
    into = f" --local-dir {mirror / path}" if mirror else ""
    return f"{login}hf download --repo-type dataset {path}{into}"


def _problem(folder: Path, benchmark: Benchmark) -> str | None:
    """What keeps a folder from serving the benchmark; null where nothing does."""
    if not folder.is_dir():
        return f"{folder} is not there"
    names = sorted(
        f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.name.endswith(DATA_SUFFIXES)
    )
    if not names:
        return f"{folder} has no data files"
    declared = _declared(folder / "README.md")
    for wanted in sorted({s.data for s in benchmark.subsets if s.data}):
        if declared and wanted not in declared:
            return f"{folder} has no configuration {wanted}"
        for pattern in declared.get(wanted, ()):
            if not any(fnmatch.fnmatch(name, pattern.removeprefix("./")) for name in names):
                return f"{folder} lacks {pattern}"
    return None


def _declared(readme: Path) -> dict[str, list[str]]:
    """File patterns of each configuration that a data set's README.md declares."""
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    parts = text.split("\n---", 1)
    if not text.startswith("---") or len(parts) < 2:
        return {}
    try:
        data = yaml.load(parts[0].removeprefix("---"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    configs = data.get("configs") if isinstance(data, dict) else None
    return {str(c.get("config_name", "default")): _patterns(c.get("data_files")) for c in configs or ()}


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


def content_digest(location: Path) -> str:
    """First 16 hex digits of a sha256 over the names and bytes of a folder's data files: equal data, equal digest."""
    whole = hashlib.sha256()
    for file in sorted(f for f in location.rglob("*") if f.name.endswith(DATA_SUFFIXES) and f.is_file()):
        whole.update(file.relative_to(location).as_posix().encode())
        whole.update(_file_sha256(file, file.stat().st_mtime_ns))
    return whole.hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _file_sha256(file: Path, _mtime_ns: int) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
