"""A terminal table that leaves columns out where the terminal is narrow, instead of cutting all of them short."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.table import Table

_PADDING = 1


@dataclass(frozen=True)
class TableColumn:
    """A column with its cells."""

    header: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "right"
    keep: int = 0
    """Columns with the smallest number are left out first."""
    most: int | None = None
    """Largest width; longer cells are cut."""

    def width(self, header: str) -> int:
        """Columns of the terminal that it takes under this header."""
        width = max(cell_len(text) for text in (*header.split("\n"), *self.cells))
        return min(width, self.most or width) + _PADDING

    def broken_header(self) -> str:
        """The header on as many lines as its cells are narrow, broken at spaces and hyphens."""
        longest = max(map(cell_len, self.header.replace("-", "- ").split()), default=1)
        return textwrap.fill(self.header, max(longest, *map(cell_len, self.cells)), break_long_words=False)


def fitted_table(title: str, columns: Sequence[TableColumn], width: int) -> Table:
    """The table, at most `width` wide if possible: headers are broken at spaces and hyphens, then columns are left out.

    What was left out is told below it. The first column always stays.
    """
    headers = {column.header: column.header for column in columns}
    if _width(columns, headers) > width:
        headers = {column.header: column.broken_header() for column in columns}
    shown = list(columns)
    while _width(shown, headers) > width and len(shown) > 1:
        shown.remove(min(reversed(shown[1:]), key=lambda column: column.keep))
    table = Table(
        title=title, title_justify="left", box=None, header_style="bold", padding=(0, _PADDING, 0, 0)
    )
    for column in shown:
        table.add_column(
            headers[column.header],
            justify=column.justify,
            no_wrap=True,
            overflow="ellipsis",
            max_width=column.most,
        )
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*row)
    left_out = [column.header for column in columns if column not in shown]
    if left_out:
        table.caption = f"In a wider terminal also: {', '.join(left_out)}."
        table.caption_justify = "left"
    return table


def _width(columns: Sequence[TableColumn], headers: dict[str, str]) -> int:
    return sum(column.width(headers[column.header]) for column in columns)
