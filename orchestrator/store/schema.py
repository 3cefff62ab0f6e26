"""Schema of a store: its state, and upgrades with Alembic."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from orchestrator.errors import SchemaError, StoreError, StoreMissing
from orchestrator.store.database import Database

_MIGRATIONS = Path(__file__).resolve().parent / "migrations"
# Arbitrary key of the PostgreSQL advisory lock for schema changes.
_MOST_FAULTS = 100
_UPGRADE_LOCK = 0x6D62_7570


class SchemaState(StrEnum):
    """How a store's schema compares with this code's."""

    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    FOREIGN = "foreign"


def config() -> Config:
    """Alembic's configuration, without a configuration file."""
    alembic_config = Config()
    alembic_config.set_main_option("script_location", str(_MIGRATIONS))
    return alembic_config


@lru_cache(maxsize=1)
def revisions() -> tuple[str, ...]:
    """All revisions that this code knows, oldest first."""
    script = ScriptDirectory.from_config(config())
    return tuple(reversed([revision.revision for revision in script.walk_revisions()]))


def compare_types(
    context: MigrationContext,
    inspected_column: sa.Column[Any],
    metadata_column: sa.Column[Any],
    inspected_type: sa.types.TypeEngine[Any],
    metadata_type: sa.types.TypeEngine[Any],
) -> bool | None:
    """Alembic's `compare_type`: False for equal types, None for Alembic's own comparison.

    SQLite ignores the length of a text column, so that 0003 leaves its tables as they are.
    """
    plain = metadata_type.impl if isinstance(metadata_type, sa.types.TypeDecorator) else metadata_type
    texts = isinstance(inspected_type, sa.String) and isinstance(plain, sa.Text)
    return False if context.dialect.name == "sqlite" and texts else None


def state_of(connection: sa.Connection) -> SchemaState:
    """Compare the connected store with this code."""
    current = MigrationContext.configure(connection).get_current_revision()
    if current == revisions()[-1]:
        return SchemaState.CURRENT
    if current is not None:
        return SchemaState.OLDER if current in revisions() else SchemaState.NEWER
    return SchemaState.FOREIGN if sa.inspect(connection).get_table_names() else SchemaState.EMPTY


def require_current(database: Database, *, create: bool) -> None:
    """Make an empty store if `create`, and raise StoreError (SchemaError where it has one) for any other store that is not current."""
    state = database.at_once(state_of)
    if state is SchemaState.EMPTY and create and not database.read_only:
        upgrade(database)
        state = database.at_once(state_of)
    where = f"The store {database.label}"
    if state is SchemaState.EMPTY:
        raise StoreMissing(f"{where} is empty; `mergeboard run` makes it, or check MERGEBOARD_DATABASE_URL.")
    if state is SchemaState.NEWER:
        raise SchemaError(f"{where} was written by a newer mergeboard; update mergeboard on this machine.")
    if state is SchemaState.OLDER:
        raise SchemaError(
            f"{where} was written by an older mergeboard; bring it up to date with `mergeboard db upgrade`."
        )
    if state is SchemaState.FOREIGN:
        raise SchemaError(
            f"{where} holds tables that are not mergeboard's; point MERGEBOARD_DATABASE_URL elsewhere."
        )


def faults(connection: sa.Connection) -> list[str]:
    """Differences of a current store's tables from the migrations, and SQLite's damage, one line each."""
    from alembic.autogenerate import compare_metadata

    from orchestrator.store.tables import metadata

    lines = []
    if connection.dialect.name == "sqlite":
        damage = connection.exec_driver_sql(f"PRAGMA quick_check({_MOST_FAULTS})").scalars().all()
        lines += [f"SQLite: {' '.join(str(text).split())}" for text in damage if text != "ok"]
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(
            _MOST_FAULTS
        ):
            lines.append(f"SQLite: row {row} of {table} refers to a row of {parent} that is not there")
    context = MigrationContext.configure(connection, opts={"compare_type": compare_types})
    for change in compare_metadata(context, metadata):
        kind, *parts = change[0] if isinstance(change, list) else change
        names = [str(getattr(part, "name", part)) for part in parts if part is not None]
        lines.append(f"the schema lacks or has too much: {kind} {' '.join(names)}"[:300])
    return lines


def upgrade(database: Database, revision: str = "head") -> None:
    """Apply missing migrations in one transaction; safe to call from several processes at once."""

    def work(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        if state_of(connection) in (SchemaState.NEWER, SchemaState.FOREIGN):
            return
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)
        if (
            connection.dialect.name == "sqlite"
            and connection.execute(sa.text("PRAGMA foreign_key_check")).first()
        ):
            raise StoreError(
                f"The store {database.label} cannot be brought up to date: rows would lose what they refer to."
            )

    migrating = database.for_migration()
    try:
        migrating.at_once(work, writing=True)
    finally:
        migrating.close()
