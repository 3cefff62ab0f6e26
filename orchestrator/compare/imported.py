"""Convert imported runs to sides of a comparison."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from evals.claims.facts import Fact
from evals.errors import ClaimError, SamplesError
from evals.results_files import result_files
from evals.samples import StoredSamples
from evals.scores import Sample
from orchestrator.compare import Side
from orchestrator.errors import RunError
from orchestrator.store import Store
from orchestrator.store.claim_records import ImportedResultRecord, ImportedRunRecord

_DISTINGUISHING = (Fact.TEMPLATE, Fact.DTYPE, Fact.QUANTIZATION, Fact.LIMIT, Fact.HARNESS_VERSION)


def imported_sides(store: Store, text: str, home: Path) -> list[Side] | None:
    """The benchmarks of the imported runs with this id, checkpoint, file or folder; None if there are none.

    Several runs of one checkpoint are combined. Raises RunError, which lists the runs, if a benchmark is in
    more than one of them.
    """
    runs = find_runs(store, text)
    if not runs:
        return None
    results = store.imported_results(run.id for run in runs)
    _require_one_of_each(text, runs, results)
    return [_side(run, result, home) for run in runs for result in results.get(run.id, ())]


def find_runs(store: Store, text: str) -> tuple[ImportedRunRecord, ...]:
    """The imported runs with this id, checkpoint, file or folder; the same file may have been imported under another path."""
    runs = store.find_imports(text) or store.find_imports(str(Path(text).absolute()))
    path = Path(text)
    if runs or not path.exists():
        return runs
    if path.is_dir():
        folder = path.absolute()
        inside = tuple(run for run in store.imports(limit=10_000) if folder in Path(run.source).parents)
        if inside:
            return inside
    return tuple(run for file in _files(path) for run in store.find_imports(import_id_of(file)))


def one_run(store: Store, text: str) -> ImportedRunRecord | None:
    """The imported run that a text names; None if there is none. Raises RunError, which lists them, if there are several."""
    runs = find_runs(store, text)
    if len(runs) > 1:
        choices = "; ".join(_line(run) for run in runs[:4])
        raise RunError(f"{len(runs)} imported runs are of {text}; name one by its id: {choices}.")
    return runs[0] if runs else None


def import_id_of(file: Path) -> str:
    """The id of an imported file: the first digits of its sha256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    """The result files at a path; none if it has none or cannot be read."""
    try:
        yield from (file for file in result_files(path) if file.is_file())
    except (ClaimError, OSError):
        return


def _require_one_of_each(
    text: str, runs: Sequence[ImportedRunRecord], results: dict[str, tuple[ImportedResultRecord, ...]]
) -> None:
    runs_by_benchmark: dict[tuple[str, str], list[ImportedRunRecord]] = defaultdict(list)
    for run in runs:
        for result in results.get(run.id, ()):
            if result.primary:
                runs_by_benchmark[result.suite, result.benchmark].append(run)
    for (_, benchmark), matches in runs_by_benchmark.items():
        if len(matches) > 1:
            choices = "; ".join(_line(run) for run in matches[:4])
            raise RunError(
                f"{len(matches)} imported runs of {text} have {benchmark}; name one by its id: {choices}."
            )


def _line(run: ImportedRunRecord) -> str:
    distinguishing = [
        f"{fact} {run.facts.known[fact]}" for fact in _DISTINGUISHING if fact in run.facts.known
    ]
    day = [f"{run.measured_at:%Y-%m-%d}"] if run.measured_at else []
    return f"{run.id} ({', '.join([run.checkpoint, *day, *distinguishing])})"


def _side(run: ImportedRunRecord, result: ImportedResultRecord, home: Path) -> Side:
    samples: tuple[Sample, ...] = ()
    notes = (*run.problems, *result.problems)
    unfit = result.unfit
    if result.samples_path is not None and not (home / result.samples_path).is_file():
        notes = (*notes, "its samples are gone; import it again")
    elif result.samples_path is not None:
        owner = f"the imported run {run.id}"
        try:
            samples = StoredSamples(home, result.samples_path, result.samples_sha256 or "", owner).read()
        except SamplesError as error:
            unfit = unfit or f"{str(error).rpartition(';')[0]}; import it again"
    return Side(
        result.measurement,
        samples,
        definition=result.benchmark_digest,
        notes=notes,
        unfit=unfit,
        benchmark=result.definition,
    )
