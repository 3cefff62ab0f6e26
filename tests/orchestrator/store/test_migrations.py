"""Migrations: they make the tables that the code uses, and bring stores of every earlier schema along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from evals.claims.records import VerdictKind
from orchestrator.errors import StoreError
from orchestrator.store import Store, upgrade_store
from orchestrator.store import schema as schemas
from orchestrator.store.database import Database
from orchestrator.store.leaderboard import LeaderboardQuery
from orchestrator.store.records import RunState
from orchestrator.store.schema import SchemaState, revisions
from orchestrator.store.tables import metadata
from tests.support import schema_rows
from tests.support.store_data import demo_run

_NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade():
    {body}
"""
_REBUILD_RUNS = """
    rebuilt = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("runs", recreate=rebuilt) as runs:
        runs.add_column(sa.Column("colour", sa.Text, server_default="blue", nullable=False))
"""
_FAIL_HALFWAY = """
    op.create_table("half", sa.Column("a", sa.Integer))
    op.execute("UPDATE runs SET no_such_column = 1")
"""


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def test_migrations_make_the_tables_of_the_code(store: Store) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": schemas.compare_types})
        return list(compare_metadata(context, metadata))

    assert store._database.read(differences) == []


def test_no_column_has_a_length_but_those_of_our_own_enums() -> None:
    """PostgreSQL refuses longer values, or cuts them off in silence where a parameter is cast to the column's type."""
    texts = [c for table in metadata.sorted_tables for c in table.columns if isinstance(c.type, sa.String)]
    bounded = {f"{c.table.name}.{c.name}" for c in texts if c.type.length and not isinstance(c.type, sa.Enum)}
    assert len(texts) > 50
    assert bounded == set()


@pytest.mark.parametrize("revision", revisions())
def test_a_store_of_every_schema_is_brought_up_to_date_with_its_rows(
    database: Database, url: str, revision: str
) -> None:
    schemas.upgrade(database, revision)
    database.write(lambda connection: schema_rows.load(connection, revision))
    upgrade_store(url)
    stored = json.loads((schema_rows.FOLDER / f"{revision}.json").read_text())
    with Store.open(url) as store:
        found = {run.name: run for run in store.runs()}
        assert set(found) == {"done", "failed", "going on", "never started"}
        assert found["done"].state is RunState.DONE
        assert found["going on"].state is RunState.INTERRUPTED
        jobs = [item.job.digest for item in store.run_jobs(found["done"].id)]
        assert len(store.outcomes(jobs)) == len(stored["outcomes"]) == 4
        values = [score.value for scores in store.scores(jobs).values() for score in scores]
        assert sorted(values) == sorted(row["value"] for row in stored["scores"])
        assert sum(len(store.attempts(digest)) for digest in jobs) == len(stored["attempts"])
        candidates = [row for row in stored["candidates"] if row["run_id"] == found["done"].id]
        page = store.leaderboard(LeaderboardQuery(run_id=found["done"].id))
        assert page.total == len(candidates)
        assert {row.candidate.weights_digest for row in page.rows} == {
            row["weights_digest"] for row in candidates
        }
        lease = store.take_lease(found["going on"].id, "me")
        assert lease is not None
        for card in stored.get("cards", ()):
            assert len(store.card(card["id"]).claims) == 2
            assert [v.kind for v in store.reproductions(card["id"])[0].verdicts] == [
                VerdictKind.REPRODUCED,
                VerdictKind.NOT_COMPARABLE,
            ]
        for run in stored.get("imports", ()):
            assert len(store.imported_results([run["id"]])[run["id"]]) == 1


def test_rows_of_every_schema_are_kept() -> None:
    """See `schema_rows`: write the rows of the old schema before adding a migration."""
    assert {path.stem for path in schema_rows.FOLDER.iterdir()} == set(revisions())


def test_an_older_store_says_how_to_upgrade_and_keeps_its_rows(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, candidates, planned = demo_run()
    with Store.open(url) as store:
        store.create_run(run, candidates, planned)
        before = store.snapshot()
    add_migration(tmp_path, monkeypatch, _REBUILD_RUNS)
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreError, match="mergeboard db upgrade"):
            Store.open(url, **options)
    assert upgrade_store(url) is SchemaState.OLDER
    assert upgrade_store(url) is SchemaState.CURRENT
    with Store.open(url) as store:
        # SQLite rebuilt a table that others refer to; nothing may have gone with the old one.
        assert store.snapshot() == before
        assert store._database.read(lambda c: c.scalar(sa.text("SELECT colour FROM runs"))) == "blue"
    monkeypatch.undo()
    schemas.revisions.cache_clear()
    with pytest.raises(StoreError, match="newer mergeboard"):
        Store.open(url)


def test_a_migration_that_fails_halfway_changes_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, candidates, planned = demo_run()
    with Store.open(url) as store:
        store.create_run(run, candidates, planned)
        before = store.snapshot()
    add_migration(tmp_path, monkeypatch, _FAIL_HALFWAY)
    with pytest.raises(StoreError, match="no_such_column"):
        upgrade_store(url)
    monkeypatch.undo()
    schemas.revisions.cache_clear()
    with Store.open(url) as store:
        assert store.snapshot() == before
        assert "half" not in store._database.read(lambda c: sa.inspect(c).get_table_names())


def add_migration(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Give the code one more schema than it has."""
    copy = folder / "migrations"
    shutil.copytree(schemas._MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = _NEXT.format(revision="9000", before=revisions()[-1], body=body.strip())
    (copy / "versions" / "v9000_next.py").write_text(text)
    monkeypatch.setattr(schemas, "_MIGRATIONS", copy)
    schemas.revisions.cache_clear()


@pytest.fixture(autouse=True)
def _forget_revisions() -> Iterator[None]:
    yield
    schemas.revisions.cache_clear()
