"""Page state in the URL, so that every view has a link that restores it.

The URL is the only state: a widget gets its value from it on every run and writes changes to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, NoReturn
from urllib.parse import urlencode

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from orchestrator.display.text_safety import escaped

_PAGES = "mergeboard_pages"
_KEPT = "mergeboard_kept"
_WRITTEN = "mergeboard_written"
_FRESH = "mergeboard_fresh"
_HERE = "mergeboard_here"
_LEAVING = "mergeboard_leaving"
_LEFT_BY_GO = "mergeboard_left_by_go"
_CHANGED_HERE = "mergeboard_changed_here"
_SETTLED_S = 8.0


class _Written(NamedTuple):
    """A change of a URL parameter that the browser may not know yet."""

    new: str | None
    old: str | None
    at: float


class View(StrEnum):
    """The pages; the value is the page's URL path, empty for the first page."""

    OVERVIEW = ""
    LEADERBOARD = "leaderboard"
    COMPARE = "compare"
    RECIPE = "recipe"
    LAYERS = "layers"
    SEARCH = "search"
    CLAIMS = "claims"
    JOB = "job"
    CARD = "card"


def register(pages: Mapping[View, StreamlitPage]) -> None:
    """Register the pages for `go` and `link`."""
    st.session_state[_PAGES] = dict(pages)


def enter(view: View) -> None:
    """Set the current page; call this before drawing it."""
    fresh = st.session_state.get(_HERE) != view.value
    st.session_state[_FRESH] = fresh
    if not st.session_state.pop(_CHANGED_HERE, False):
        _follow_back()
    if fresh:
        st.session_state.pop(_LEAVING, None)
    st.session_state[_HERE] = view.value


def left_by_go(draw: Callable[[], None]) -> None:
    """Draw a page, or a part of one, whose tables and buttons call `go`.

    If a part of a page refreshes itself, the browser can request the next refresh while the server already
    draws another page: Streamlit would then return the session to the old page, and the browser's page breaks.
    Therefore `go` first redraws this part empty, so that Streamlit drops its self-refreshing fragments.
    """
    st.fragment(_draw_or_leave, key=_LEFT_BY_GO)(draw)


def _draw_or_leave(draw: Callable[[], None]) -> None:
    leaving: tuple[View, dict[str, str]] | None = st.session_state.pop(_LEAVING, None)
    if leaving is None:
        draw()
        return
    view, new = leaving
    now = time.monotonic()
    st.session_state[_CHANGED_HERE] = True
    waiting: dict[str, _Written] = st.session_state.setdefault(_WRITTEN, {})
    for name in {*st.query_params, *new}:
        waiting[name] = _Written(new=new.get(name), old=st.query_params.get(name), at=now)
    st.switch_page(st.session_state[_PAGES][view], query_params=new)


def go(view: View, **values: str | int | None) -> NoReturn:
    """Open a view; other parameters get their defaults. For callbacks of widgets drawn by `left_by_go`."""
    st.session_state[_LEAVING] = view, _texts(values)
    st.rerun(_LEFT_BY_GO)


def address(view: View, **values: str | int | None) -> str:
    """The URL of a view, relative to the dashboard's root."""
    query = urlencode(_texts(values))
    return f"{view.value}?{query}" if query else view.value


def link(view: View, label: str, **values: str | int | None) -> None:
    """Draw a link to a view; the label is Markdown: escape foreign text."""
    st.page_link(st.session_state[_PAGES][view], label=label, query_params=_texts(values))


def here() -> str:
    """The full URL of the current view."""
    query = urlencode(st.query_params.to_dict())
    return f"{st.context.url or ''}?{query}" if query else str(st.context.url or "")


def value(name: str, default: str = "") -> str:
    """A URL parameter, or its default."""
    text = _current(name)
    return default if text is None else text


def number(name: str, default: int = 0) -> int:
    """A URL parameter as a whole number; the default if it is not one."""
    text = value(name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def put(**values: str | int | None) -> None:
    """Set URL parameters; None removes one."""
    waiting: dict[str, _Written] = st.session_state.setdefault(_WRITTEN, {})
    for name, new in values.items():
        text, old = None if new is None else str(new), st.query_params.get(name)
        if text == old:
            continue
        waiting[name] = _Written(new=text, old=old, at=time.monotonic())
        _write(name, text)


def _current(name: str) -> str | None:
    """A URL parameter, or its value as written a moment ago.

    A live page sends its refresh requests with the URL that the browser has, which can be older than the last
    change.
    """
    text = st.query_params.get(name)
    written: _Written | None = st.session_state.get(_WRITTEN, {}).get(name)
    if written is None or text == written.new or text != written.old:
        return text
    if time.monotonic() - written.at > _SETTLED_S:
        return text
    _write(name, written.new)
    return written.new


def _follow_back() -> None:
    """Forget changes that the browser's Back button has undone.

    A whole page that is drawn again without a change of ours has the URL that the reader went to. Only a part
    that refreshes itself, or a second change, can still come with the URL from before a change.
    """
    waiting: dict[str, _Written] = st.session_state.get(_WRITTEN, {})
    for name, written in list(waiting.items()):
        text = st.query_params.get(name)
        if text == written.old and text != written.new:
            del waiting[name]


def _write(name: str, text: str | None) -> None:
    if text is not None:
        st.query_params[name] = text
    elif name in st.query_params:
        del st.query_params[name]


def kept(name: str) -> str:
    """A parameter that is kept between pages: from the URL, or its last value."""
    memory: dict[str, str] = st.session_state.setdefault(_KEPT, {})
    text = _current(name)
    return memory.get(name, "") if text is None else text


def keep(name: str, new: str) -> None:
    """Keep a parameter between pages, and write it to the URL."""
    memory: dict[str, str] = st.session_state.setdefault(_KEPT, {})
    memory[name] = new
    put(**{name: new})


def choose(
    label: str,
    name: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    label_of: Callable[[str], str] = str,
    resets: Sequence[str] = (),
    help_text: str | None = None,
) -> str:
    """Draw a select box. `resets` names URL parameters that a change removes."""
    first = _fill_choice(label, name, options, default, label_of)
    chosen = st.selectbox(
        label,
        options,
        key=name,
        format_func=label_of,
        on_change=_changed,
        args=(name, first, tuple(resets)),
        help=help_text,
    )
    return first if chosen is None else str(chosen)


def segments(
    label: str,
    name: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    label_of: Callable[[str], str] = str,
    resets: Sequence[str] = (),
) -> str:
    """Draw a segmented control; labels are Markdown."""
    first = _fill_choice(label, name, options, default, label_of)
    chosen = st.segmented_control(
        label,
        options,
        key=name,
        format_func=label_of,
        on_change=_changed,
        args=(name, first, tuple(resets)),
        required=True,
    )
    return first if chosen is None else str(chosen)


def say_unknown(what: str, text: str, shown: str) -> None:
    """Say that the URL names something that is not there, and what is shown in its place."""
    st.warning(
        f"This address names {escaped(what.lower(), 40)} “{escaped(text, 60)}”, which is not here; "
        f"{escaped(shown, 60)} is shown.",
        icon=":material/link_off:",
    )


def _fill_choice(
    label: str, name: str, options: Sequence[str], default: str | None, label_of: Callable[[str], str]
) -> str:
    """Set a widget to the URL's choice, or to the default if the URL names none of the options; that default."""
    first = default if default is not None else options[0]
    requested = value(name, first)
    if requested not in options:
        say_unknown(label, requested, label_of(first))
    _fill(name, requested if requested in options else first)
    return first


def search(label: str, name: str, placeholder: str, *, resets: Sequence[str] = ()) -> str:
    """Draw a search field and return its text."""
    _fill(name, value(name)[:200])
    text = st.text_input(
        label,
        key=name,
        placeholder=placeholder,
        max_chars=200,
        on_change=_changed,
        args=(name, "", tuple(resets)),
    )
    return text or ""


def switch(label: str, name: str, *, help_text: str | None = None, resets: Sequence[str] = ()) -> bool:
    """Draw a switch that is off by default."""
    _fill(name, value(name) == "1")
    return bool(
        st.toggle(label, key=name, on_change=_changed, args=(name, "", tuple(resets)), help=help_text)
    )


def pager(name: str, total: int, size: int, what: str) -> int:
    """Draw page buttons if there is more than one page; returns the index of the first row to show."""
    last = max(0, (total - 1) // size)
    page = min(number(name), last)
    if value(name) and value(name) != str(page):
        say_unknown("page", value(name), f"page {page + 1} of {last + 1}")
    if last == 0:
        st.caption(f"{total:,} {what}")
        return 0
    with st.container(horizontal=True, vertical_alignment="center"):
        _step("First", name, 0, page == 0, ":material/first_page:")
        _step("Previous", name, page - 1, page == 0, ":material/chevron_left:")
        _step("Next", name, page + 1, page == last, ":material/chevron_right:")
        _step("Last", name, last, page == last, ":material/last_page:")
        st.caption(f"{page * size + 1:,} to {min(total, (page + 1) * size):,} of {total:,} {what}")
    return page * size


def _step(label: str, name: str, page: int, disabled: bool, icon: str) -> None:
    st.button(
        label,
        key=f"{name}_{label}",
        icon=icon,
        disabled=disabled,
        on_click=_go_to_page,
        args=(name, page),
    )


def _go_to_page(name: str, page: int) -> None:
    st.session_state[_CHANGED_HERE] = True
    put(**{name: page or None})


def _fill(name: str, new: str | bool) -> None:
    """Set a widget's value if it differs: setting it again would discard what the user is typing.

    On a new page, values are always set: widgets of the previous page can have the same names.
    """
    if st.session_state.get(_FRESH, True) or name not in st.session_state or st.session_state[name] != new:
        st.session_state[name] = new


def _changed(name: str, default: str, resets: tuple[str, ...]) -> None:
    """Write a changed widget's value to the URL, unless it is the default.

    Streamlit also calls this for a widget that reappears, with its old value.
    """
    new = st.session_state[name]
    text = ("1" if new else "") if isinstance(new, bool) else str(new if new is not None else "")
    if text == value(name, default):
        return
    st.session_state[_CHANGED_HERE] = True
    put(**{name: None if text == default else text}, **dict.fromkeys(resets))


def _texts(values: Mapping[str, str | int | None]) -> dict[str, str]:
    return {name: str(new) for name, new in values.items() if new is not None and new != ""}
