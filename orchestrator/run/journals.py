"""Deletes request journals that no evaluation will read again.

A journal holds the answers of an evaluation that has not ended, or that stopped early: resuming it, or asking it whole, does not
ask them again. It is deleted if the whole evaluation is in the store, or if no run of the store has the evaluation and nobody has
written to it for a day, since runs of another store may use the same folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store

_UNKNOWN_STAYS_S = 86_400.0
_PAGE = 100


class PrunedJournals(Frozen):
    """What was deleted."""

    digests: tuple[str, ...] = Field(description="Digests of the evaluations whose journals were deleted.")
    freed_bytes: int = Field(description="Bytes of the deleted files.")


def prune_journals(store: Store, journals: Path) -> PrunedJournals:
    """Delete the journals in this folder that no run of the store can use, and return which."""
    folders = {folder.name: folder for folder in journals.glob("*") if folder.is_dir()}
    if not folders:
        return PrunedJournals(digests=(), freed_bytes=0)
    complete, of_runs = store.done(folders), set(_digests_of_runs(store))
    deleted: list[str] = []
    freed = 0
    for digest, folder in sorted(folders.items()):
        files = [path for path in folder.rglob("*") if path.is_file()]
        unused = digest not in of_runs and _age_s([folder, *files]) > _UNKNOWN_STAYS_S
        if digest in complete or unused:
            freed += sum(path.stat().st_size for path in files)
            shutil.rmtree(folder, ignore_errors=True)
            deleted.append(digest)
    return PrunedJournals(digests=tuple(deleted), freed_bytes=freed)


def _digests_of_runs(store: Store) -> Iterator[str]:
    """Digests of all jobs of all runs, and of the whole evaluations of those that may stop early."""
    offset = 0
    while page := store.runs(limit=_PAGE, offset=offset):
        offset += len(page)
        for run in page:
            for planned in store.run_jobs(run.id):
                yield planned.job.digest
                if isinstance(planned.job, EvalJob):
                    yield planned.job.whole.digest


def _age_s(paths: list[Path]) -> float:
    """Seconds since the last change of any of the paths."""
    return time.time() - max(path.stat().st_mtime for path in paths)
