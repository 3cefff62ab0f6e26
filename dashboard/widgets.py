"""Widgets shared by the pages: tables, downloads, messages, notes, colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from dashboard.components.code import show_code
from orchestrator.charts import Theme
from orchestrator.charts.theme import LOOKS
from orchestrator.display.text_safety import cell, escaped
from orchestrator.store.records import RunState

ROW_PX = 31

STATE_MARKS = {
    RunState.RUNNING: "● running",
    RunState.WAITING: "○ waiting",
    RunState.INTERRUPTED: "◐ interrupted",
    RunState.DONE: "✓ done",
    RunState.FAILED: "✗ failed",
    RunState.CANCELLED: "– cancelled",
}


def theme() -> Theme:
    """The browser's current theme."""
    return Theme.DARK if st.context.theme.type == "dark" else Theme.LIGHT


def tints() -> tuple[str, str, str]:
    """Backgrounds of better, worse and not compared cells, as in charts and reports."""
    look = LOOKS[theme()]
    return look.better.tint, look.worse.tint, look.refused.tint


def table(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    *,
    columns: Mapping[str, Any] | None = None,
    tint: Callable[[int, str], str] | None = None,
    select: str | Sequence[str] | None = None,
    height: int | Literal["content"] | None = None,
    name: str | None = None,
    order: Sequence[str] | None = None,
    on_pick: Callable[[Any], None] | None = None,
) -> Any:
    """Draw a table of plain values, with CSV download. Returns the selection if `select` is set.

    `on_pick` is called with a new selection before anything is drawn.
    """
    frame = pd.DataFrame(list(rows), columns=None if rows else list(order or ()))
    data: pd.DataFrame | Styler = frame
    if tint is not None and len(frame):
        data = frame.style.apply(lambda _: _tinted(frame, tint), axis=None)
    options: dict[str, Any] = {}
    if select:
        on_select = "rerun" if on_pick is None else lambda: on_pick(st.session_state[key])
        options = {"on_select": on_select, "selection_mode": select}
    if height is not None:
        options["height"] = height
    return st.dataframe(
        data,
        key=key,
        hide_index=True,
        column_config=dict(columns or {}),
        column_order=order,
        row_height=ROW_PX,
        placeholder="",
        alt=name,
        **options,
    )


def table_height(rows: int) -> int:
    """Height in pixels of a table with this many rows and a header."""
    return ROW_PX * (rows + 1) + 2


def picked(selected: Any, n_rows: int) -> list[int]:
    """Indices of selected rows, by a click on a cell or on the row's check box."""
    indices = [index for index, _ in selected.selection.get("cells", ())] or list(selected.selection.rows)
    return [index for index in indices if index < n_rows]


def download(label: str, file_name: str, content: Callable[[], str | bytes], mime: str, key: str) -> None:
    """Draw a download button; the content is computed on request."""
    st.download_button(
        label,
        data=content,
        file_name=file_name,
        mime=mime,
        key=key,
        on_click="ignore",
        icon=":material/download:",
    )


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as CSV; a cell that a spreadsheet would run as a formula is exported as text."""
    frame = pd.DataFrame(list(rows))
    for column in frame.columns:
        if frame[column].dtype == object or pd.api.types.is_string_dtype(frame[column]):
            frame[column] = frame[column].map(cell)
    return bytes(frame.to_csv(index=False).encode())


def show_message(
    title: str, sentence: str, *, command: str | None = None, icon: str = ":material/inbox:"
) -> None:
    """Draw a message for an empty or broken state: what it is and what to do."""
    with st.container(border=True):
        st.markdown(f"**{icon} {escaped(title)}**")
        st.text(sentence)
        if command:
            show_code(command)


def notes(texts: Sequence[str]) -> None:
    """Draw remarks below a table, as text."""
    for text in dict.fromkeys(texts):
        st.caption(escaped(text, 400))


def heading(title: str, subtitle: str = "") -> None:
    """Draw the title of a page and a line below it; both are text."""
    st.header(escaped(title), anchor=False)
    if subtitle:
        st.caption(escaped(subtitle, 300))


def _tinted(frame: pd.DataFrame, tint: Callable[[int, str], str]) -> pd.DataFrame:
    return pd.DataFrame(
        [[tint(row, str(column)) for column in frame.columns] for row in range(len(frame))],
        index=frame.index,
        columns=frame.columns,
    )


def facts(values: Mapping[str, str], key: str) -> None:
    """Draw a table of names and values."""
    table([{"What": name, "Value": text} for name, text in values.items()], key, height="content")
