"""List and remove imported runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.errors import RunError
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.claim_records import ImportedResultRecord, ImportedRunRecord

_MOST = 10_000


class StoredImport(Frozen):
    """An imported run in the store with its benchmarks."""

    run: ImportedRunRecord = Field(description="The imported run.")
    results: tuple[ImportedResultRecord, ...] = Field(description="Its benchmarks.")


def imported_runs(settings: Settings) -> tuple[StoredImport, ...]:
    """Every imported run, the newest first."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        runs = store.imports(limit=_MOST)
        results = store.imported_results(run.id for run in runs)
    return tuple(StoredImport(run=run, results=results.get(run.id, ())) for run in runs)


def remove_imports(ids: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Delete imported runs by id and the samples that only they use; RunError before anything if an id is unknown or ambiguous."""
    with Store.open(settings.database_url, create=False) as store:
        chosen = [_only_run(store, text) for text in dict.fromkeys(ids)]
        for run in chosen:
            for relative in store.remove_import(run.id):
                _delete(settings.home, relative)
    return tuple(run.id for run in chosen)


def _only_run(store: Store, text: str) -> ImportedRunRecord:
    matches = [run for run in store.find_imports(text) if run.id.startswith(text)]
    if not matches:
        raise RunError(f"There is no imported run {text}; `mergeboard import --list` lists their ids.")
    if len(matches) > 1:
        raise RunError(
            f"{text} begins the ids of {len(matches)} imported runs: {', '.join(run.id for run in matches[:4])}; "
            "write more of it."
        )
    return matches[0]


def _delete(home: Path, relative: str) -> None:
    """Delete a samples file and its folder if that is empty then; files outside of the imports' folder are left."""
    imports = (home / "imports").resolve()
    path = (home / relative).resolve()
    if not path.is_relative_to(imports) or path == imports:
        return
    path.unlink(missing_ok=True)
    folder = path.parent
    if folder != imports and folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
