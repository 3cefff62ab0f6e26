"""What a view shows is written in its address, so that every view has a link that restores it.

The address is the only state: a widget is filled from it on every run and writes to it when it is changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, NoReturn
from urllib.parse import urlencode

import streamlit as st
from streamlit.navigation.page import StreamlitPage

_PAGES = "mergeboard_pages"
_KEPT = "mergeboard_kept"
_WRITTEN = "mergeboard_written"
_FRESH = "mergeboard_fresh"
_HERE = "mergeboard_here"
_LEAVING = "mergeboard_leaving"
_LEFT_BY_GO = "mergeboard_left_by_go"
_SETTLED_S = 8.0


class _Written(NamedTuple):
    """A value that was written to the address."""

    new: str | None
    old: str | None
    at: float


class View(StrEnum):
    """The pages; the value is the page's part of the address, empty for the first page."""

    OVERVIEW = ""
    LEADERBOARD = "leaderboard"
    COMPARE = "compare"
    LAYERS = "layers"
    CLAIMS = "claims"
    JOB = "job"
    CARD = "card"


def register(pages: Mapping[View, StreamlitPage]) -> None:
    """Make the pages known to `go`."""
    st.session_state[_PAGES] = dict(pages)


def enter(view: View) -> None:
    """Say which page is drawn from here on."""
    fresh = st.session_state.get(_HERE) != view.value
    st.session_state[_FRESH] = fresh
    if fresh:
        st.session_state.pop(_LEAVING, None)
    st.session_state[_HERE] = view.value


def left_by_go(draw: Callable[[], None]) -> None:
    """Draw a page, or a part of one, whose tables and buttons call `go`.

    Where something of a page refreshes itself, the browser may ask for its next refresh while the server draws another
    page already: Streamlit would then take the session back to the page that was left, and the browser's page breaks. So
    whoever goes first lets this part be drawn anew with nothing in it, with which Streamlit forgets what refreshed itself.
    """
    st.fragment(_draw_or_leave, key=_LEFT_BY_GO)(draw)


def _draw_or_leave(draw: Callable[[], None]) -> None:
    leaving: tuple[View, dict[str, str]] | None = st.session_state.pop(_LEAVING, None)
    if leaving is None:
        draw()
        return
    view, new = leaving
    now = time.monotonic()
    waiting: dict[str, _Written] = st.session_state.setdefault(_WRITTEN, {})
    for name in {*st.query_params, *new}:
        waiting[name] = _Written(new=new.get(name), old=st.query_params.get(name), at=now)
    st.switch_page(st.session_state[_PAGES][view], query_params=new)


def go(view: View, **values: str | int | None) -> NoReturn:
    """Open a view; what is not named keeps its default there. For callbacks of widgets that `left_by_go` has drawn."""
    st.session_state[_LEAVING] = view, _texts(values)
    st.rerun(_LEFT_BY_GO)


def address(view: View, **values: str | int | None) -> str:
    """The link to a view, relative to the dashboard's root."""
    query = urlencode(_texts(values))
    return f"{view.value}?{query}" if query else view.value


def link(view: View, label: str, **values: str | int | None) -> None:
    """A link to a view; the label is Markdown, escape what comes from outside."""
    st.page_link(st.session_state[_PAGES][view], label=label, query_params=_texts(values))


def here() -> str:
    """The whole address of what is shown now."""
    query = urlencode(st.query_params.to_dict())
    return f"{st.context.url or ''}?{query}" if query else str(st.context.url or "")


def value(name: str, default: str = "") -> str:
    """A value out of the address."""
    found = _found(name)
    return default if found is None else found


def number(name: str, default: int = 0) -> int:
    """A whole number out of the address; what is none is the default."""
    text = value(name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def put(**values: str | int | None) -> None:
    """Write values to the address; None takes one out."""
    waiting: dict[str, _Written] = st.session_state.setdefault(_WRITTEN, {})
    for name, new in values.items():
        text, old = None if new is None else str(new), st.query_params.get(name)
        if text == old:
            continue
        waiting[name] = _Written(new=text, old=old, at=time.monotonic())
        _write(name, text)


def _found(name: str) -> str | None:
    """A value as the address has it, or as it was written a moment ago.

    A live page asks for its next refresh with the address that the browser had when it asked, which may be older than
    what a click has just written.
    """
    found = st.query_params.get(name)
    written: _Written | None = st.session_state.get(_WRITTEN, {}).get(name)
    if written is None or found == written.new or found != written.old:
        return found
    if time.monotonic() - written.at > _SETTLED_S:
        return found
    _write(name, written.new)
    return written.new


def _write(name: str, text: str | None) -> None:
    if text is not None:
        st.query_params[name] = text
    elif name in st.query_params:
        del st.query_params[name]


def kept(name: str) -> str:
    """A value that goes along from page to page, out of the address or as it was last."""
    memory: dict[str, str] = st.session_state.setdefault(_KEPT, {})
    found = _found(name)
    return memory.get(name, "") if found is None else found


def keep(name: str, new: str) -> None:
    """Make a value go along from page to page, and write it to the address."""
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
    """A list to choose from. `resets` names values that mean nothing any more after a change."""
    first = default if default is not None else options[0]
    wanted = value(name, first)
    _fill(name, wanted if wanted in options else first)
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
    """A few choices side by side; labels are Markdown."""
    first = default if default is not None else options[0]
    wanted = value(name, first)
    _fill(name, wanted if wanted in options else first)
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


def search(label: str, name: str, placeholder: str, *, resets: Sequence[str] = ()) -> str:
    """A line of text to search for."""
    _fill(name, value(name)[:200])
    found = st.text_input(
        label,
        key=name,
        placeholder=placeholder,
        max_chars=200,
        on_change=_changed,
        args=(name, "", tuple(resets)),
    )
    return found or ""


def switch(label: str, name: str, *, help_text: str | None = None, resets: Sequence[str] = ()) -> bool:
    """A switch that is off by default."""
    _fill(name, value(name) == "1")
    return bool(
        st.toggle(label, key=name, on_change=_changed, args=(name, "", tuple(resets)), help=help_text)
    )


def pager(name: str, total: int, size: int, what: str) -> int:
    """The number of the first row to show; draws the buttons where there is more than one page."""
    last = max(0, (total - 1) // size)
    page = min(number(name), last)
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
        on_click=put,
        kwargs={name: page or None},
    )


def _fill(name: str, new: str | bool) -> None:
    """Give a widget its value. One that has it already is left alone: what is being typed into it would be lost.

    The widgets of the page before have names like those of this one, and are other widgets.
    """
    if st.session_state.get(_FRESH, True) or name not in st.session_state or st.session_state[name] != new:
        st.session_state[name] = new


def _changed(name: str, default: str, resets: tuple[str, ...]) -> None:
    """After a change of a widget: its value goes to the address, unless it is the default.

    Streamlit also calls this for a widget that it had forgotten and finds again, with the value that it had.
    """
    new = st.session_state[name]
    text = ("1" if new else "") if isinstance(new, bool) else str(new if new is not None else "")
    if text == value(name, default):
        return
    put(**{name: None if text == default else text}, **dict.fromkeys(resets))


def _texts(values: Mapping[str, str | int | None]) -> dict[str, str]:
    return {name: str(new) for name, new in values.items() if new is not None and new != ""}
