"""Where commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from orchestrator.display.text_safety import Terminal


def wide_console() -> Terminal:
    """The terminal, or 110 columns where the output goes to a file."""
    console = Terminal()
    return console if console.is_terminal else Terminal(width=110)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table whose first column, the name that commands take, is never cut."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    wide_console().print(table)
