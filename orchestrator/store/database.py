"""Access to the database: transactions, its clock, and error messages of one sentence.

SQLite runs in WAL mode: readers see the last commit and never wait, writers queue with BEGIN IMMEDIATE.
On PostgreSQL readers use a read-only snapshot, and writers lock the rows that they decide on.

Every unit of work is idempotent, so that one whose connection was lost is retried for `patience_s`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
import tenacity
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from evals.errors import first_line
from orchestrator.errors import StoreError, StoreLost

T = TypeVar("T")
_BUSY_S = 60.0
# PostgreSQL's states for conflicting transactions: serialization failure, deadlock.
_CONTENDED_STATES = {"40001", "40P01"}
# These, and states of a server that shuts down, crashed, starts up, or has too many connections.
_TRANSIENT_STATES = {*_CONTENDED_STATES, "57P01", "57P02", "57P03", "53300"}
# psycopg reports no state if the connection itself is refused.
_NOT_UP = ("the database system is", "too many clients", "remaining connection slots")
_FULL_STATES = {"53100"}
# SQLite's errors for files that cannot grow.
_FULL_NAMES = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")
_POSTGRES_OPTIONS = "-c idle_in_transaction_session_timeout=60000 -c lock_timeout=60000 -c timezone=UTC"
_SQLITE_NOW = sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
_POSTGRES_NOW = sa.text("SELECT clock_timestamp()")


class Database:
    """One database, opened for reading and writing or read-only."""

    def __init__(
        self, url: str, *, read_only: bool = False, patience_s: float = 60.0, foreign_keys: bool = True
    ) -> None:
        self.url = _parse(url)
        self.read_only = read_only
        self._patience_s = patience_s
        # Readers fail fast on a locked database; writers wait for their turn.
        self._busy_s = min(_BUSY_S, patience_s) if read_only else _BUSY_S
        self._engine = (
            _sqlite(self.url, read_only, foreign_keys, self._busy_s)
            if self.is_sqlite
            else _postgres(self.url, read_only)
        )
        self._writer = self._engine.execution_options(mergeboard_write=True)
        self._reader = (
            self._engine
            if self.is_sqlite
            else self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        """The file of a SQLite store; None for PostgreSQL."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @property
    def label(self) -> str:
        """Name of the store for messages, without password."""
        return str(self.file) if self.is_sqlite else _without_secrets(self.url)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one writing transaction, with retries."""
        if self.read_only:
            raise StoreError(f"The store {self.label} is open for reading alone.")
        return self._patiently(self._writer, work, _is_transient)

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one reading transaction, which sees one snapshot."""
        return self._patiently(self._reader, work, _is_transient)

    def at_once(self, work: Callable[[sa.Connection], T], *, writing: bool = False) -> T:
        """As `read` or `write`, but without retries."""
        return self._patiently(self._writer if writing else self._reader, work, _is_contended)

    def for_migration(self) -> Database:
        """The same database for migrations, without foreign keys: SQLite drops tables to rebuild them."""
        return Database(self.url.render_as_string(hide_password=False), foreign_keys=False)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _patiently(
        self,
        engine: sa.Engine,
        work: Callable[[sa.Connection], T],
        worth_another_try: Callable[[BaseException], bool],
    ) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_another_try),
            stop=tenacity.stop_after_delay(self._patience_s),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
            reraise=True,
        )
        try:
            return retrying(lambda: _in_transaction(engine, work))
        except UnicodeEncodeError as error:
            raise StoreError(_not_text(self.label)) from error
        except ValueError as error:  # in rows that are read: invalid UTF-8, JSON or record
            raise self._damaged(error) from error
        except LookupError as error:
            if type(error) is not LookupError:  # SQLAlchemy raises the base class for an unknown enum value
                raise
            raise self._damaged(error) from error
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else None
            away = _is_transient(error) or (cause is not None and _is_full(cause))
            raise (StoreLost if away else StoreError)(self._sentence(error)) from error

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"The store {self.label} holds a record that cannot be read ({type(error).__name__}): the file is damaged; "
            "restore it, or set MERGEBOARD_DATABASE_URL to another store."
        )

    def _sentence(self, error: SQLAlchemyError) -> str:
        """Message for an error: what, where, and the next step."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = first_line(cause).rstrip(".")
        where = f"The store {self.label}"
        if _is_full(cause) or "NUL (0x00)" in text:
            return full_disk(self.label) if _is_full(cause) else _not_text(self.label)
        if "not a database" in text:
            return f"{where} is not a mergeboard store; point MERGEBOARD_DATABASE_URL at another file."
        if "readonly database" in text or "unable to open database file" in text:
            return f"{where} cannot be opened; check that the file is there and that you may read and write it and its folder."
        if "database is locked" in text:
            return f"{where} is held by another process for over {self._busy_s:.0f} s; end it, or use PostgreSQL for many writers."
        if _is_transient(error):
            return f"{where} does not answer ({text}); check MERGEBOARD_DATABASE_URL and that the server is running."
        return (
            f"{where} refused a request ({type(cause).__name__}: {text}); `mergeboard db check` examines it."
        )


def _not_text(label: str) -> str:
    """The sentence for text with NUL or half of a surrogate pair in it."""
    return (
        f"The store {label} cannot hold text with a NUL character or half of a surrogate pair in it; "
        "take the character out of the name or file that it came with."
    )


def label_of(url: str) -> str:
    """Name of a store for messages: its file, or its URL without passwords. StoreError for an invalid URL."""
    parsed = _parse(url)
    return str(parsed.database) if parsed.get_backend_name() == "sqlite" else _without_secrets(parsed)


def full_disk(label: str) -> str:
    """Message for a store whose disk is full."""
    return f"The store {label} cannot be written: its disk is full; free some space and run the same command again."


def clock(connection: sa.Connection) -> datetime:
    """Time of the store's clock, on which all decisions about leases are made."""
    if connection.dialect.name == "sqlite":
        text = connection.scalar(_SQLITE_NOW)
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    moment: datetime = connection.execute(_POSTGRES_NOW).scalar_one()
    return moment.astimezone(UTC)


def _in_transaction(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _parse(text: str) -> sa.URL:
    """The URL with the supported driver; StoreError if it is neither SQLite nor PostgreSQL."""
    try:
        url = sa.make_url(text)
        backend = "postgresql" if url.drivername == "postgres" else url.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            "MERGEBOARD_DATABASE_URL is not a database URL; write sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from error
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite", database=str(Path(url.database).expanduser().absolute()))
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"A store cannot be kept in {_without_secrets(url)}; write sqlite:///FILE or postgresql://USER@HOST/NAME."
    )


def _without_secrets(url: sa.URL) -> str:
    plain = url.set(drivername=url.get_backend_name()).difference_update_query(
        ["password", "passfile", "sslpassword"]
    )
    return plain.render_as_string(hide_password=True)


def _sqlite(url: sa.URL, read_only: bool, foreign_keys: bool, busy_s: float) -> sa.Engine:
    path = str(url.database)
    target = f"file:{quote(path)}?mode={'ro' if read_only else 'rwc'}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            target, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        connection.execute("PRAGMA cache_size = -65536")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            # Acknowledged outcomes survive a power failure.
            connection.execute("PRAGMA synchronous = FULL")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("mergeboard_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgres(url: sa.URL, read_only: bool) -> sa.Engine:
    extra = url.query.get("options", "")
    options = f"{extra if isinstance(extra, str) else ' '.join(extra)} {_POSTGRES_OPTIONS}".strip()
    arguments: dict[str, Any] = {
        "application_name": "mergeboard",
        "connect_timeout": 10,
        "tcp_user_timeout": 30_000,
        "options": options,
    }
    return sa.create_engine(url, connect_args=arguments, execution_options={"postgresql_readonly": read_only})


def _is_transient(error: BaseException) -> bool:
    """Whether the transaction may succeed on a retry, for example when the server is back."""
    if not isinstance(error, DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return _is_contended(error)
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state in _TRANSIENT_STATES or _cannot_connect(error, state)


def _is_contended(error: BaseException) -> bool:
    """Whether a conflict with another process caused the error, so that a retry may succeed."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.OperationalError):
        # SQLite waits for locks, but not while it switches a new file to WAL mode.
        return "database is locked" in str(error.orig)
    return getattr(error.orig, "sqlstate", None) in _CONTENDED_STATES


def _cannot_connect(error: DBAPIError, state: str | None) -> bool:
    """Whether the server is unreachable or not up yet, as opposed to a rejected password or name."""
    if not isinstance(error, sa.exc.OperationalError) or state is not None:
        return False
    text = str(error.orig)
    return "FATAL" not in text or any(words in text for words in _NOT_UP)


def _is_full(cause: BaseException) -> bool:
    if isinstance(cause, sqlite3.OperationalError):
        return getattr(cause, "sqlite_errorname", None) in _FULL_NAMES
    return getattr(cause, "sqlstate", None) in _FULL_STATES
