"""A table of numbers that sorts on the server: header buttons, ticks that belong to rows, details of each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import widgets
from orchestrator.charts.theme import LOOKS

_HERE = Path(__file__).parent
_grid = st.components.v2.component(
    "mergeboard_grid",
    html='<div class="grid"></div>',
    css=(_HERE / "grid.css").read_text(encoding="utf-8"),
    js=(_HERE / "grid.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class GridColumn:
    """A column; the first one of a grid is the rows' name."""

    key: str
    label: str
    help: str
    numeric: bool = True
    sorted: str | None = None
    """`ascending` or `descending`, if the rows are sorted by it."""
    phone: bool = False
    """Whether it is shown on a narrow screen."""
    kind: str = "score"


@dataclass(frozen=True)
class GridCell:
    """A cell: a number as text, and the difference to the base with its meaning."""

    text: str
    delta: str = ""
    meaning: str = ""
    """`better`, `worse`, `better-uncorrected`, `worse-uncorrected`, `refused` or empty."""
    title: str = ""
    href: str = ""


@dataclass(frozen=True)
class DetailRow:
    """A row of a row's details: its texts, and where its first one leads."""

    key: str
    texts: tuple[str, ...]
    href: str = ""


@dataclass(frozen=True)
class Detail:
    """What a row shows when it is opened."""

    head: tuple[str, ...]
    rows: tuple[DetailRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GridRow:
    """A row; `id` stays the same wherever it stands."""

    id: int
    name: str
    cells: Mapping[str, GridCell]
    href: str = ""
    mark: str = ""
    mark_title: str = ""
    kind: str = ""
    detail: Detail | None = field(default=None)


def show_grid(
    key: str,
    caption: str,
    columns: Sequence[GridColumn],
    rows: Sequence[GridRow],
    *,
    ticks: Sequence[int],
    on_sort: Callable[[str], None],
    on_open: Callable[[int, str], None],
    on_tick: Callable[[list[int]], None],
) -> None:
    """Draw the table.

    `on_sort` gets the key of a clicked header, `on_open` a row's id and the key of the clicked column (empty for the
    name), `on_tick` the ids of all ticked rows; each before anything is drawn.
    """

    def sort() -> None:
        on_sort(str(st.session_state[key].sort))

    def opened() -> None:
        row, column = st.session_state[key].open
        on_open(int(row), str(column))

    def ticked() -> None:
        on_tick([int(row) for row in st.session_state[key].ticks or ()])

    data: dict[str, Any] = {
        "caption": caption,
        "columns": [asdict(column) for column in columns],
        "rows": [asdict(row) for row in rows],
        "ticks": sorted(ticks),
        "colours": _colours(),
    }
    _grid(key=key, data=data, on_sort_change=sort, on_open_change=opened, on_ticks_change=ticked)


def _colours() -> dict[str, str]:
    """The theme's colours as CSS variables."""
    look = LOOKS[widgets.theme()]
    return {
        "better": look.better.text,
        "worse": look.worse.text,
        "better-tint": look.better.tint,
        "worse-tint": look.worse.tint,
        "faint": look.faint,
        "line": look.grid,
        "strong": look.missing_mark,
    }
