"""Opening a store: what is made, what is refused and with which sentence; reading alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.errors import StoreError, StoreMissing
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store, upgrade_store
from orchestrator.store.database import Database, clock
from orchestrator.store.records import AttemptRecord
from orchestrator.store.schema import SchemaState
from tests.support.pg import PostgresForTests
from tests.support.store_data import demo_run, eval_job, eval_outcome, new_run


def test_an_empty_database_becomes_a_store_and_opens_again(url: str) -> None:
    with Store.open(url) as store:
        store.create_run(new_run("kept"), [], [])
    with Store.open(url, create=False) as store:
        assert [run.name for run in store.runs()] == ["kept"]


def test_a_store_that_is_not_there_is_not_made_for_a_reader(url: str, tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreMissing, match=r"no store at|is empty"):
            Store.open(url, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_a_newer_version_is_left_alone(url: str) -> None:
    Store.open(url).close()
    set_revision(url, "9999")
    for options in ({}, {"read_only": True}):
        with pytest.raises(StoreError, match="newer mergeboard; update mergeboard"):
            Store.open(url, **options)
    with pytest.raises(StoreError, match="newer mergeboard"):
        upgrade_store(url)


def test_tables_of_somebody_else_are_left_alone(url: str) -> None:
    database = Database(url)
    database.write(lambda connection: connection.execute(sa.text("CREATE TABLE theirs (a integer)")))
    database.close()
    with pytest.raises(StoreError, match="not mergeboard's"):
        Store.open(url)


def test_upgrading_says_what_the_store_was(url: str, tmp_path: Path) -> None:
    Store.open(url).close()
    assert upgrade_store(url) is SchemaState.CURRENT
    with pytest.raises(StoreError, match="no store at"):
        upgrade_store(f"sqlite:///{tmp_path / 'nothing.sqlite'}")


def test_a_reader_reads_and_cannot_write(url: str) -> None:
    run, candidates, planned = demo_run()
    with Store.open(url) as writer:
        writer.create_run(run, candidates, planned)
        with Store.open(url, read_only=True) as reader:
            assert reader.progress(run.id).total == 7
            with pytest.raises(StoreError, match="reading alone"):
                reader.cancel_run(run.id)
            with pytest.raises(StoreError):
                # Past our own check the database refuses as well.
                reader._database.at_once(lambda c: c.execute(sa.text("DELETE FROM run_jobs")), writing=True)


def test_a_reader_sees_one_moment_while_the_store_is_written(url: str) -> None:
    run, candidates, planned = demo_run()
    with Store.open(url) as writer, Store.open(url, read_only=True) as reader:
        writer.create_run(run, candidates, planned, owner="me")
        lease = writer.take_lease(run.id, "me")
        assert lease is not None

        def look_twice(connection: sa.Connection) -> tuple[object, object]:
            count = sa.text("SELECT count(*) FROM scores")
            before = connection.scalar(count)
            job = eval_job()
            attempt = writer.start_attempt(lease, job.digest)
            assert isinstance(attempt, AttemptRecord)
            writer.finish_attempt(attempt.id, eval_outcome(job))
            return before, connection.scalar(count)

        assert reader._database.read(look_twice) == (0, 0)
        assert len(reader.scores([eval_job().digest])) == 1


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://host/name", "cannot be kept in mysql://host/name"),
        ("mysql://joe:secret@host/name", r"mysql://joe:\*\*\*@host/name"),
        ("sqlite://", "write sqlite:///FILE"),
        ("sqlite:///:memory:", "write sqlite:///FILE"),
        ("postgresql://joe:secret@127.0.0.1:1/name", "does not answer"),
        ("postgresql:///name?host=/nowhere&password=secret", "does not answer"),
    ],
)
def test_a_url_that_leads_nowhere_is_named_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"this is text, not a database, and long enough to have a header" * 20, os.urandom(4096)]
)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "store.sqlite"
    file.write_bytes(content)
    with pytest.raises(StoreError, match="is not a mergeboard store"):
        Store.open(f"sqlite:///{file}")
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="set MERGEBOARD_HOME elsewhere"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'below' / 'store.sqlite'}")


def test_a_store_in_a_place_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(f"sqlite:///{tmp_path}")


def test_paths_with_odd_characters(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c?d%20é"
    with Store.open(
        sa.URL.create("sqlite", database=str(folder / "store.sqlite")).render_as_string()
    ) as store:
        store.create_run(new_run(), [], [])
    assert (folder / "store.sqlite").stat().st_size > 0


def test_the_clock_is_the_databases_and_aware(url: str) -> None:
    database = Database(url)
    first = database.at_once(clock)
    second = database.at_once(clock)
    database.close()
    assert second >= first
    assert str(first.tzinfo) == "UTC"


def test_a_naive_time_is_never_stored(store: Store) -> None:
    from orchestrator.store.tables import runs

    naive = sa.func.now().type.python_type(2026, 1, 1)
    with pytest.raises(StoreError, match="no time zone"):
        store._database.write(lambda c: c.execute(runs.update().values(started_at=naive)))


def test_a_full_disk_is_one_sentence_and_loses_nothing(tiny_disk: Path) -> None:
    url = f"sqlite:///{tiny_disk / 'store.sqlite'}"
    with Store.open(url) as store:
        run, candidates, planned = demo_run()
        store.create_run(run, candidates, planned, owner="me")
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        jobs = [item.job for item in planned if isinstance(item.job, EvalJob)]
        first = store.start_attempt(lease, jobs[0].digest)
        second = store.start_attempt(lease, jobs[1].digest)
        assert isinstance(first, AttemptRecord)
        assert isinstance(second, AttemptRecord)
        store.finish_attempt(first.id, eval_outcome(jobs[0]))
        filler = fill(tiny_disk)
        with pytest.raises(StoreError, match="its disk is full; free some space"):
            store.finish_attempt(second.id, eval_outcome(jobs[1], subsets=400))
        assert store.done(job.digest for job in jobs) == {jobs[0].digest}
        filler.unlink()
        store.finish_attempt(second.id, eval_outcome(jobs[1], subsets=4))
        assert store.done(job.digest for job in jobs) == {jobs[0].digest, jobs[1].digest}


def test_a_full_disk_at_the_first_opening(tiny_disk: Path) -> None:
    filler = fill(tiny_disk)
    with pytest.raises(StoreError, match="its disk is full"):
        Store.open(f"sqlite:///{tiny_disk / 'new' / 'store.sqlite'}")
    assert list(tiny_disk.iterdir()) == [filler]


def test_a_full_disk_at_the_next_opening(tiny_disk: Path) -> None:
    url = f"sqlite:///{tiny_disk / 'store.sqlite'}"
    with Store.open(url) as store:
        store.create_run(new_run(), [], [])
    filler = fill(tiny_disk)
    with pytest.raises(StoreError, match="its disk is full"):
        Store.open(url)
    filler.unlink()
    with Store.open(url) as store:
        assert len(store.runs()) == 1


def test_postgresql_18(postgres: PostgresForTests) -> None:
    assert postgres.version.startswith("18.")


def test_sqlite_keeps_its_promises(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 's.sqlite'}") as store:
        pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        found = store._database.read(
            lambda c: {name: c.scalar(sa.text(f"PRAGMA {name}")) for name in pragmas}
        )
        assert found == pragmas
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def set_revision(url: str, revision: str) -> None:
    """Make a store say that it has another schema."""
    database = Database(url)
    database.write(
        lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    )
    database.close()


def fill(disk: Path) -> Path:
    """Use up the disk to its last block; the file that does it."""
    filler = disk / "filler"
    filler.touch()
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 1024):
            pass
    return filler
