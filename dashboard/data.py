"""Cached read-only access to the store: opened once, queried at most every few seconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import streamlit as st

from orchestrator.settings import Settings
from orchestrator.store.pages import Pages
from orchestrator.store.records import ENDED, RunRecord

P = ParamSpec("P")
T = TypeVar("T")

_SERIALS = itertools.count(1)

LIVE_S = 2.0
SLOW_S = 20.0
FIXED_S = 3600.0


def settings() -> Settings:
    """The settings of this process."""
    return Settings.from_environment()


def open_pages() -> Pages:
    """Open the configured store. Raises StoreError if it cannot be opened."""
    url = settings().database_url
    pages = _opened(url, _file_number(url))
    slow(pages.define_suites)  # runs of other processes bring suites of their own
    return pages


def live(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Query changing data; results are cached for all sessions for two seconds."""
    return _live(_key(question, args, kwargs), question, args, kwargs)


def slow(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Query data that can be twenty seconds old."""
    return _slow(_key(question, args, kwargs), question, args, kwargs)


def fixed(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Query data that never change once stored: a run's jobs, an outcome."""
    return _fixed(_key(question, args, kwargs), question, args, kwargs)


def of_runs(question: Callable[P, T], runs: Sequence[RunRecord], *args: P.args, **kwargs: P.kwargs) -> T:
    """Query what runs have brought so far; kept while they stay as they ended, since a cancelled or failed one can go on."""
    if any(run.state not in ENDED for run in runs):
        return slow(question, *args, **kwargs)
    ends = [(run.state, run.ended_at) for run in runs]
    return _fixed(f"{ends}:{_key(question, args, kwargs)}", question, args, kwargs)


def _key(question: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """Cache key: store object, query and arguments."""
    owner = getattr(question, "__self__", None)
    return f"{getattr(owner, 'serial', 0)}:{question.__qualname__}:{args!r}:{kwargs!r}"


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(url: str, number: int | None) -> Pages:
    opened = Pages.open(url, create=False, read_only=True, patience_s=3.0)
    assert isinstance(opened, Pages)
    opened.serial = next(_SERIALS)
    return opened


def _file_number(url: str) -> int | None:
    """The inode of a SQLite file, to detect that it was replaced; None for other databases."""
    if not url.startswith("sqlite:///"):
        return None
    try:
        return Path(url.removeprefix("sqlite:///")).expanduser().stat().st_ino
    except OSError:
        return None


@st.cache_resource(ttl=LIVE_S, max_entries=256, show_spinner=False)
def _live(name: str, _question: Callable[..., Any], _args: Any, _kwargs: Any) -> Any:
    return _question(*_args, **_kwargs)


@st.cache_resource(ttl=SLOW_S, max_entries=256, show_spinner=False)
def _slow(name: str, _question: Callable[..., Any], _args: Any, _kwargs: Any) -> Any:
    return _question(*_args, **_kwargs)


@st.cache_resource(ttl=FIXED_S, max_entries=512, show_spinner=False)
def _fixed(name: str, _question: Callable[..., Any], _args: Any, _kwargs: Any) -> Any:
    return _question(*_args, **_kwargs)
