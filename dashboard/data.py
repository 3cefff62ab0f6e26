"""The store as a page uses it: opened once, asked at most every few seconds, never written."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import streamlit as st

from orchestrator.settings import Settings
from orchestrator.store.pages import Pages

P = ParamSpec("P")
T = TypeVar("T")

_SERIALS = itertools.count(1)

LIVE_S = 2.0
SLOW_S = 20.0
FIXED_S = 3600.0


def settings() -> Settings:
    """Of this process."""
    return Settings.from_environment()


def open_pages() -> Pages:
    """The store that the environment names; StoreError says why it cannot be opened."""
    url = settings().database_url
    return _opened(url, _file_number(url))


def live(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the store what changes all the time; an answer serves all sessions for two seconds."""
    return _live(_key(question, args, kwargs), question, args, kwargs)


def slow(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask what may be twenty seconds old."""
    return _slow(_key(question, args, kwargs), question, args, kwargs)


def fixed(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask what never changes once it is there: a run's jobs, an outcome."""
    return _fixed(_key(question, args, kwargs), question, args, kwargs)


def _key(question: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """Names an answer: which store object, which question, with what."""
    owner = getattr(question, "__self__", None)
    return f"{getattr(owner, 'serial', 0)}:{question.__qualname__}:{args!r}:{kwargs!r}"


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(url: str, number: int | None) -> Pages:
    opened = Pages.open(url, create=False, read_only=True, patience_s=3.0)
    assert isinstance(opened, Pages)
    opened.serial = next(_SERIALS)
    return opened


def _file_number(url: str) -> int | None:
    """Tells a SQLite file from another one that took its place."""
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
