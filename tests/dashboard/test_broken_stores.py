"""Stores that are not there, empty, locked, damaged, foreign or of another version: each page says so in a sentence, and the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.address import View
from orchestrator.store import Store
from tests.support.demo_stores import demo_store
from tests.support.page_text import codes
from tests.support.time_bound import wall_bound


def framed(view: View) -> AppTest:
    """A page with the frame that keeps it from breaking."""

    def script(view: str) -> None:
        from dashboard import address, frame

        address.register({})
        address.link = lambda *_, **__: None
        frame._draw(address.View(view))

    return AppTest.from_function(script, args=(view.value,), default_timeout=60)


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    yield
    st.cache_resource.clear()


def _missing(file: Path) -> None:
    assert not file.exists()


def _empty_file(file: Path) -> None:
    file.touch()


def _text(file: Path) -> None:
    file.write_text("not a database, but a text that is long enough to have a header\n" * 100)


def _foreign(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")


def _newer(file: Path) -> None:
    Store.open(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def _older(file: Path) -> None:
    Store.open(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_missing, "mergeboard run"),
        (_empty_file, "mergeboard run"),
        (_text, "is not a mergeboard store"),
        (_foreign, "holds tables that are not mergeboard's"),
        (_newer, "was written by a newer mergeboard; update mergeboard"),
        (_older, "mergeboard db upgrade"),
    ],
)
def test_a_store_that_cannot_be_shown_is_explained(
    home: Path, make: Callable[[Path], None], says: str
) -> None:
    make(home / "store.sqlite")
    for view in (View.OVERVIEW, View.LEADERBOARD):
        _explained(framed(view).run(), says)


@pytest.mark.parametrize("view", list(View))
def test_every_page_of_an_empty_store_says_what_fills_it(home: Path, view: View) -> None:
    Store.open(f"sqlite:///{home / 'store.sqlite'}").close()
    app = framed(view).run()
    assert not app.exception, app.exception
    assert any(code.startswith("mergeboard ") for code in codes(app))


def test_a_locked_store_is_given_up_soon_and_shown_when_it_is_free_again(home: Path) -> None:
    demo_store(home)
    holder = sqlite3.connect(home / "store.sqlite", isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")
    with wall_bound(20):
        app = framed(View.OVERVIEW).run()
        _explained(app, "is held by another process")
    holder.execute("ROLLBACK")
    holder.close()
    again = app.run()
    assert not again.exception, again.exception
    assert any("38 of 38 jobs" in m.value for m in again.markdown)


def test_a_damaged_store_is_explained_on_every_page(home: Path) -> None:
    run = demo_store(home)
    file = home / "store.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    data = bytearray(file.read_bytes())
    data[size:] = b"\xa5" * (len(data) - size)
    file.write_bytes(data)
    for view in View:
        app = framed(view)
        app.query_params["run"] = run
        _explained(app.run(), "mergeboard db check")


def _explained(app: AppTest, says: str) -> None:
    assert not app.exception, app.exception
    shown = " ".join(text.value for text in app.text)
    assert says in shown, shown
    assert "Traceback" not in shown
