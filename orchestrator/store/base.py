"""What the parts of the store share."""

from __future__ import annotations

from orchestrator.store.database import Database


class StorePart:
    """Holds the database; `Store` is made of the parts that derive from this."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s

    @property
    def lease_s(self) -> float:
        """Seconds after which a driver or an attempt that was not renewed counts as dead."""
        return self._lease_s
