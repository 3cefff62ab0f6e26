"""The store: all access to the database. The scheduler writes through it, all others read through it.

Every change is one transaction. Decisions are compare-and-set on rows, on the database's clock, with the same
results on SQLite and PostgreSQL; `tests/orchestrator/store/test_contract.py` checks both.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.errors import StoreError, StoreMissing
from orchestrator.store import schema
from orchestrator.store.attempts import Attempts
from orchestrator.store.claims import Claims
from orchestrator.store.comparisons import KeptComparisons
from orchestrator.store.database import Database, full_disk, label_of
from orchestrator.store.growing import Growing
from orchestrator.store.outcomes import Results
from orchestrator.store.queries import Queries
from orchestrator.store.refusals import Refusals
from orchestrator.store.runs import Runs
from orchestrator.store.sequences import Sequences
from orchestrator.store.snapshot import snapshot
from orchestrator.store.suites import Suites
from orchestrator.store.trials import Trials
from orchestrator.store.work import WorkQuestions

__all__ = ["Store", "label_of", "upgrade_store"]

LEASE_S = 30.0
_SMALLEST_BYTES = 1024 * 1024


class Store(
    Runs,
    Growing,
    Refusals,
    Attempts,
    Results,
    Sequences,
    Queries,
    WorkQuestions,
    KeptComparisons,
    Claims,
    Suites,
    Trials,
):
    """An open store. Several processes may open the same store; threads may share this object."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = True,
        read_only: bool = False,
        lease_s: float = LEASE_S,
        patience_s: float = 60.0,
    ) -> Self:
        """Open a store by its SQLAlchemy URL; with `create`, a missing one is created.

        Raises StoreError if it cannot be reached, is no store, or has another schema than this code. If the
        database is lost later, each call retries for `patience_s`.
        """
        database = Database(url, read_only=read_only, patience_s=patience_s)
        file = database.file
        if file is not None and not file.exists():
            if not create or read_only:
                raise StoreMissing(
                    f"There is no store at {file}; `mergeboard run` makes it, or check MERGEBOARD_DATABASE_URL."
                )
            _make_folder(database, file)
        try:
            schema.require_current(database, create=create)
        except StoreError:
            database.close()
            raise
        store = cls(database, lease_s=lease_s)
        store.define_suites()
        return store

    @property
    def label(self) -> str:
        """Name of the store for messages, without password."""
        return self._database.label

    def snapshot(self) -> str:
        """Contents without times and attempts as canonical JSON: equal for stores with the same results."""
        return self._database.read(snapshot)

    def schema_faults(self) -> list[str]:
        """Damage of the database, and differences from this code's schema, one line each."""
        return self._database.read(schema.faults)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def upgrade_store(url: str) -> schema.SchemaState:
    """Upgrade a store to the current schema (`mergeboard db upgrade`); returns its previous state."""
    database = Database(url)
    try:
        if database.file is not None and not database.file.exists():
            raise StoreMissing(f"There is no store at {database.file}; `mergeboard run` makes it.")
        before = database.at_once(schema.state_of)
        schema.upgrade(database)
        schema.require_current(database, create=False)
    finally:
        database.close()
    return before


def _make_folder(database: Database, file: Path) -> None:
    """Create the folder of a new SQLite store; StoreError if the disk is full."""
    existing = next(parent for parent in file.parents if parent.exists())
    if shutil.disk_usage(existing).free < _SMALLEST_BYTES:
        raise StoreError(full_disk(database.label))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{file.parent} cannot be made ({error.strerror}); set MERGEBOARD_HOME elsewhere."
        ) from error
