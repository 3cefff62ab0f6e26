"""What the browser tests share: one dashboard on a store with two runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from orchestrator.store import Store
from tests.support.browser import CHROMIUM, Served, serving
from tests.support.demo_stores import Maker, demo_store, load_suite
from tests.support.made_results import DEMO, HOSTILE, Made
from tests.support.pg import postgres
from tests.support.store_fixtures import store, url
from tests.support.task_store import task_store

__all__ = ["postgres", "served", "store", "url"]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The dashboard on the demo's store, which has a run with hostile names and responses as well."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: `make browser` installs it")
    home = tmp_path_factory.mktemp("home")
    with Store.open(f"sqlite:///{home / 'store.sqlite'}") as store:
        bad = Made(HOSTILE.replace("\x00", ""), ability=0.2, built=True, response=HOSTILE + "a" * 1_000_000)
        Maker(store, home, load_suite("smoke"), n=4, seed=1, name="*run* <b>").run((DEMO[0], bad))
    run = demo_store(home)
    with serving(home, run) as dashboard:
        yield dashboard


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A dashboard on a run with something of everything, and the id of a confirmed scan."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: `make browser` installs it")
    home = tmp_path_factory.mktemp("two")
    run, scan = task_store(home)
    with serving(home, run) as dashboard:
        yield dashboard, scan


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit puts its script in the place of `__main__`, which processes that later tests start would run."""
    kept = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = kept
