"""Parse a card's tables into grids of cells: Markdown, HTML, and lines copied from a web page."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

_RULE = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?$")
_NUMBER = r"(?:[+\-\u2212\u2013]\s?)?\d[\d.,]*+(?:\s?%)?"
_PASTED = re.compile(
    rf"(?P<label>\S.{{0,80}}?)[ \t]++(?P<numbers>{_NUMBER}(?:[ \t]++{_NUMBER}){{0,11}})\s*+$"
)
_BREAK = re.compile(r"<br\s{0,9}/?>", re.IGNORECASE)
_BOLD = ("**", "__", "<b>", "<strong>")
_EMPHASIS = {ord("`"): None, ord("~"): None}
_MAX_CELLS = 200_000
_MAX_SPAN = 20
_MAX_WIDTH = 200  # columns that spanning cells may fill
_MIN_PASTED = 3
_MAX_LINE = 20_000
_MAX_HTML = 200_000
_MAX_HTML_TABLES = 50


@dataclass(frozen=True)
class Grid:
    """A table: header, rows, and the line of each row in the card."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    start: int = 1  # line of the header
    bold: frozenset[tuple[int, int]] = frozenset()  # cells that begin in bold; row -1 is the header


def grids(text: str, knows: Callable[[str], bool]) -> list[Grid]:
    """All tables of a card, in order. `knows` tells whether a label names a benchmark or an average."""
    lines = text.splitlines()
    tables = [*_markdown(lines), *_html(text), *_pasted(lines, knows)]
    return sorted(tables, key=lambda g: g.lines[0])


def cell_text(cell: str) -> str:
    """A cell without markup."""
    # Most cells have no markup; the searches cost time in tables of 200,000 cells.
    if "<" in cell:
        cell = re.sub(r"<[^<>]{0,500}>", " ", cell)
    if "](" in cell:
        cell = re.sub(r"!?\[([^\[\]]{0,500})\]\([^()]{0,500}\)", r"\1", cell)
    if "][" in cell:
        cell = re.sub(r"\[([^\[\]]{1,300})\]\[[^\[\]]{0,300}\]", r"\1", cell)
    cell = cell.translate(_EMPHASIS).replace("**", "").replace("__", "")
    return (html.unescape(cell) if "&" in cell else cell).strip().strip("*_").strip()


def _markdown(lines: Sequence[str]) -> list[Grid]:
    tables = []
    at = 1
    while at < len(lines):
        header = lines[at - 1]
        if "|" in header and _is_rule(lines[at]) and len(_cells(header)) >= 2:
            end = at + 1
            while end < len(lines) and "|" in lines[end] and lines[end].strip():
                end += 1
            raw = [
                (number, cells)
                for number, line in enumerate(lines[at + 1 : end], start=at + 2)
                for cells in _stacked(_raw_cells(line))
            ]
            rows = tuple(tuple(map(cell_text, cells)) for _, cells in raw)
            if rows and sum(map(len, rows)) <= _MAX_CELLS:
                bold = _bold_cells([_raw_cells(header), *(cells for _, cells in raw)])
                tables.append(Grid(_cells(header), rows, tuple(number for number, _ in raw), at, bold))
            at = end
        at += 1
    return tables


def _is_rule(line: str) -> bool:
    return "|" in line and len(line) <= _MAX_LINE and _RULE.match(line.strip()) is not None


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell_text(c) for c in _raw_cells(line))


def _raw_cells(line: str) -> list[str]:
    inner = line.strip()
    inner = inner.removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [c.replace("\\|", "|") for c in re.split(r"(?<!\\)\|", inner)]


def _stacked(cells: list[str]) -> list[list[str]]:
    """The rows that stand in one: several if at least two cells have equally many lines, split by `<br>`."""
    if not any("<br" in cell for cell in cells):
        return [cells]
    parts = [_BREAK.split(cell) for cell in cells]
    sizes = {len(part) for part in parts if len(part) > 1}
    if len(sizes) != 1 or sum(len(part) > 1 for part in parts) < 2:
        return [cells]
    return [[part[i] if len(part) > 1 else part[0] for part in parts] for i in range(sizes.pop())]


def _bold_cells(rows: Sequence[Sequence[str]]) -> frozenset[tuple[int, int]]:
    """Cells of a header and its rows that begin in bold."""
    return frozenset(
        (row, column)
        for row, cells in enumerate(rows, start=-1)
        for column, cell in enumerate(cells)
        if cell.strip().removeprefix("[").startswith(_BOLD)
    )


def _pasted(lines: Sequence[str], knows: Callable[[str], bool]) -> list[Grid]:
    """Runs of lines such as 'BBH (3-Shot) 24.08' or 'BBH (3-Shot) 58.77 +2.51%'."""
    tables: list[Grid] = []
    run: list[tuple[int, tuple[str, ...]]] = []
    for number, line in enumerate([*lines, ""], start=1):
        match = _PASTED.match(line) if "|" not in line and len(line) < 400 else None
        if match is not None and knows(match["label"]):
            label = match["label"].lstrip("-*+\u2022 \t").rstrip(" \t:=") or match["label"]
            run.append((number, (label, *re.findall(_NUMBER, match["numbers"]))))
            continue
        if len(run) >= _MIN_PASTED and len({len(cells) for _, cells in run}) == 1:
            width = len(run[0][1])
            above = lines[run[0][0] - 2].split() if run[0][0] >= 2 else []
            header = tuple(above) if len(above) == width else ("",) * width
            tables.append(Grid(header, tuple(c for _, c in run), tuple(n for n, _ in run), run[0][0]))
        run = []
    return tables


def _html(text: str) -> list[Grid]:
    """HTML tables of limited size; only their text is parsed."""
    tables: list[Grid] = []
    for opening in itertools.islice(re.finditer(r"<table\b", text, re.IGNORECASE), _MAX_HTML_TABLES):
        block = text[opening.start() : opening.start() + _MAX_HTML]
        end = re.search(r"</table\s*>", block, re.IGNORECASE)
        if end is None:
            continue
        reader = _TableReader()
        reader.feed(block[: end.end()])
        reader.close()
        above = text.count("\n", 0, opening.start())
        for found, bold in reader.tables:
            rows = _one_header(found)
            lines = tuple(above + n for n, _ in rows[1:])
            tables.append(Grid(rows[0][1], tuple(r for _, r in rows[1:]), lines, above + rows[0][0], bold))
    return tables


def _one_header(rows: list[tuple[int, tuple[str, ...]]]) -> list[tuple[int, tuple[str, ...]]]:
    """The rows of a table; a second row that names the columns below spanning cells replaces the first."""
    if len(rows) < 3 or len(rows[0][1]) != len(rows[1][1]):
        return rows
    first, second = rows[0][1], rows[1][1]
    spans = any(not cell for cell in first[1:])
    named = sum(bool(re.search(r"[A-Za-z]", cell)) for cell in second)
    if not spans or 2 * named <= len(second) or any(re.fullmatch(r"[\d.,%\s-]+", cell) for cell in second):
        return rows
    header = tuple(below or above for above, below in zip(first, second, strict=True))
    return [(rows[0][0], header), *rows[2:]]


class _TableReader(HTMLParser):
    """Collects the rows of HTML tables; nested tables are read as rows of the outer one.

    A cell that spans rows is repeated in each; one that spans columns fills the first, the others are empty.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[tuple[list[tuple[int, tuple[str, ...]]], frozenset[tuple[int, int]]]] = []
        self._rows: list[tuple[int, tuple[str, ...]]] | None = None
        self._cells: list[str] | None = None
        self._cell: list[str] | None = None
        self._span = (1, 1)  # rows and columns of the open cell
        self._below: dict[int, tuple[int, str]] = {}  # cells that span rows, by column: remaining rows, text
        self._bold: set[tuple[int, int]] = set()
        self._line = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens a table, row or cell."""
        if tag == "table" and self._rows is None:
            self._rows, self._below, self._bold = [], {}, set()
        elif tag == "tr" and self._rows is not None:
            self._end_row()
            self._cells, self._line = [], self.getpos()[0]
        elif tag in ("td", "th") and self._cells is not None:
            self._end_cell()
            self._fill_from_above()
            self._cell, self._span = [], (_span(attrs, "rowspan"), _span(attrs, "colspan"))
        elif tag == "br" and self._cell is not None:
            self._cell.append(" ")
        elif tag in ("b", "strong") and self._rows is not None and self._begins_cell():
            self._bold.add((len(self._rows) - 1, len(self._cells or ())))

    def handle_endtag(self, tag: str) -> None:
        """Closes a table, row or cell."""
        if tag in ("td", "th"):
            self._end_cell()
        elif tag == "tr":
            self._end_row()
        elif tag == "table" and self._rows is not None:
            self._end_row()
            if len(self._rows) >= 2:
                self.tables.append((self._rows, frozenset(self._bold)))
            self._rows = None

    def handle_data(self, data: str) -> None:
        """Adds text to the open cell."""
        if self._cell is not None:
            self._cell.append(data)

    def _begins_cell(self) -> bool:
        return self._cell is not None and not any(map(str.strip, self._cell))

    def _end_cell(self) -> None:
        if self._cell is not None and self._cells is not None:
            text, (rows, columns) = cell_text("".join(self._cell)), self._span
            for cell in (text, *[""] * min(columns - 1, _MAX_WIDTH - len(self._cells))):
                if rows > 1:
                    self._below[len(self._cells)] = (rows - 1, cell)
                self._cells.append(cell)
        self._cell = None

    def _fill_from_above(self) -> None:
        """Add the cells of rows above that span this position of the open row."""
        while self._cells is not None and len(self._cells) in self._below and len(self._cells) < _MAX_WIDTH:
            left, text = self._below.pop(len(self._cells))
            if left > 1:
                self._below[len(self._cells)] = (left - 1, text)
            self._cells.append(text)

    def _end_row(self) -> None:
        self._end_cell()
        if self._cells and self._rows is not None:
            self._fill_from_above()
            self._rows.append((self._line, tuple(self._cells)))
        self._cells = None


def _span(attrs: list[tuple[str, str | None]], name: str) -> int:
    """A cell's rowspan or colspan, at most 20; 1 if it is invalid."""
    text = dict(attrs).get(name) or ""
    return min(max(int(text), 1), _MAX_SPAN) if re.fullmatch(r"[0-9]{1,4}", text) else 1
