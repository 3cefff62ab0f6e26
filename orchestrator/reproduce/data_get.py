"""Downloads the data sets that a suite, a sweep or a card needs, through huggingface_hub: sizes first, resumable, gates named."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from pydantic import Field

from evals.datasets import DatasetState, check, data_patterns
from evals.engine import Frozen
from evals.errors import DatasetError
from evals.scores import PROBE_SUITE
from evals.suite import Benchmark, load_suite
from evals.suite_file import SuiteRequest, resolve_suite
from orchestrator.cards.survey import plan_card
from orchestrator.plan.benchmarks import resolve_suites
from orchestrator.plan.sweep import load_sweep
from orchestrator.settings import Settings

_README = "README.md"
_CARD_SUFFIXES = (".md", ".markdown")


class NeededData(Frozen):
    """One data set that benchmarks need, with what of it is on this machine."""

    dataset: str = Field(description="Data set repository on the hub.")
    benchmarks: tuple[Benchmark, ...] = Field(description="The benchmarks that read it.")
    here: bool = Field(description="Whether this machine has it for all of them.")


class Download(Frozen):
    """What a data set's download is."""

    dataset: str = Field(description="Data set repository on the hub.")
    commit: str = Field(description="Commit of the data.")
    files: tuple[str, ...] = Field(description="Names of the needed files.")
    size_bytes: int = Field(description="Their size in bytes.")
    folder: Path | None = Field(description="Folder to write to; null for the hub's cache.")


def needed_data(source: str, settings: Settings, *, mirror: Path | None) -> tuple[NeededData, ...]:
    """The data sets of a suite (name, file, task), a sweep file or a card, in order.

    Raises SuiteError, SweepError or CardError where `source` is none of them.
    """
    by_dataset: dict[str, list[Benchmark]] = {}
    for benchmark in _benchmarks(source, settings):
        if not benchmark.dataset.shipped and not benchmark.dataset.files:
            by_dataset.setdefault(benchmark.dataset.path, []).append(benchmark)
    return tuple(
        NeededData(
            dataset=path,
            benchmarks=tuple(benchmarks),
            here=all(check(b, mirror).state is DatasetState.AVAILABLE for b in benchmarks),
        )
        for path, benchmarks in by_dataset.items()
    )


def _benchmarks(source: str, settings: Settings) -> Iterator[Benchmark]:
    path = Path(source)
    if path.suffix.lower() in _CARD_SUFFIXES and path.is_file():
        claimed: dict[str, set[str]] = {}
        for claim in plan_card(path, settings, {}).claims:
            if claim.suite is None:
                continue
            claimed.setdefault(claim.suite, set()).update([claim.benchmark] if claim.benchmark else [])
        for name, names in claimed.items():
            yield from (b for b in load_suite(name).benchmarks if not names or b.name in names)
        return
    if (
        path.suffix in (".yaml", ".yml")
        and path.is_file()
        and "\nbase:" in "\n" + path.read_text(encoding="utf-8")
    ):
        file = load_sweep(path)
        suites = resolve_suites(file.sweep, Path(file.folder), {})
        for entry in file.sweep.suites:
            if entry.suite != PROBE_SUITE:
                suite = suites[entry.request]
                yield from (b for b in suite.benchmarks if not entry.benchmarks or b.name in entry.benchmarks)
        return
    yield from resolve_suite(SuiteRequest(suite=source), Path.cwd()).benchmarks


def plan_download(need: NeededData, mirror: Path | None) -> Download:
    """Ask the hub for commit, files and sizes; DatasetError names a gate, a missing repository or a lost connection."""
    with _named(need.dataset):
        info = HfApi().dataset_info(need.dataset, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        commit = str(info.sha)
        patterns: list[str] = []
        if _README in sizes:
            readme = Path(hf_hub_download(need.dataset, _README, repo_type="dataset", revision=commit))
            patterns = sorted({p for b in need.benchmarks for p in data_patterns(readme, b)})
    chosen = [name for name in sizes if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    files = (*([_README] if _README in sizes else []), *chosen) if chosen else tuple(sizes)
    return Download(
        dataset=need.dataset,
        commit=commit,
        files=files,
        size_bytes=sum(sizes[name] for name in files),
        folder=mirror / need.dataset if mirror else None,
    )


def download(planned: Download) -> Path:
    """Fetch the files, with progress on stderr; what an earlier call fetched is not fetched again."""
    with _named(planned.dataset):
        return Path(
            snapshot_download(
                planned.dataset,
                repo_type="dataset",
                revision=planned.commit,
                allow_patterns=[_escaped(name) for name in planned.files],
                local_dir=planned.folder,
            )
        )


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


@contextmanager
def _named(dataset: str) -> Iterator[None]:
    """Turn the hub's errors into one sentence about a data set."""
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise DatasetError(_sentence(dataset, error)) from error


def _sentence(dataset: str, error: Exception) -> str:
    page = f"https://huggingface.co/datasets/{dataset}"
    if isinstance(error, GatedRepoError):
        return f"{dataset} is gated: accept its terms at {page}, then `hf auth login` (or set HF_TOKEN), and call this again."
    if isinstance(error, RepositoryNotFoundError):
        return f"The hub has no data set {dataset}, or your token may not see it; look at {page}."
    reason = " ".join(str(error).split())[:200]
    return f"{dataset} could not be fetched ({reason}); call this again to go on where it stopped."
