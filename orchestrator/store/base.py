"""Base class of the parts of the store."""

from __future__ import annotations

from orchestrator.store.database import Database


class StorePart:
    """Holds the database; `Store` inherits from all its subclasses."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s

    @property
    def lease_s(self) -> float:
        """Seconds without renewal after which a driver or an attempt counts as dead."""
        return self._lease_s
