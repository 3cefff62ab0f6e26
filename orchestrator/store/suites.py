"""Definitions of users' suites: kept with the first run that scores them, and made known to this process when a store opens."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from pydantic import ValidationError

from evals.errors import SuiteError
from evals.suite import Suite, define_suite
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.runs import insert_new
from orchestrator.store.tables import suites


class Suites(StorePart):
    """Methods of the store for suites."""

    def keep_suites(self, definitions: Sequence[Suite]) -> None:
        """Store definitions; those that are there stay as they are."""
        if not definitions:
            return

        def work(connection: sa.Connection) -> None:
            now = clock(connection)
            rows = [
                {"digest": suite.digest, "name": suite.name, "text": suite.text, "created_at": now}
                for suite in {suite.digest: suite for suite in definitions}.values()
            ]
            insert_new(connection, suites, rows)

        self._database.write(work)

    def suites(self) -> tuple[Suite, ...]:
        """Every definition that this version of mergeboard can read, oldest first."""
        query = sa.select(suites.c.text).order_by(suites.c.created_at, suites.c.digest)
        texts = self._database.read(lambda connection: connection.scalars(query).all())
        return tuple(suite for text in texts if (suite := _parsed(text)) is not None)

    def define_suites(self) -> None:
        """Make the stored suites known in this process, so that their names have a definition."""
        for suite in self.suites():
            try:
                define_suite(suite)
            except SuiteError:  # a later version of mergeboard ships a suite of that name
                continue


def _parsed(text: str) -> Suite | None:
    try:
        return Suite.model_validate_json(text)
    except ValidationError:  # written by another version
        return None
