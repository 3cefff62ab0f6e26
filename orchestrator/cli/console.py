"""Where commands print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
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


@contextmanager
def counter(console: Console, *, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how far a long check is, as a bar with an estimate; nothing where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bars:
        task = bars.add_task("")
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
