"""Tables of a card as grids of cells: Markdown, HTML, and lines that were copied from a web page."""

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
_MAX_CELLS = 200_000
_MIN_PASTED = 3
_MAX_LINE = 20_000
_MAX_HTML = 200_000
_MAX_HTML_TABLES = 50


@dataclass(frozen=True)
class Grid:
    """A table: its header, its rows, and the line of the card that each row stands on."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]


def grids(text: str, knows: Callable[[str], bool]) -> list[Grid]:
    """All tables of a card, in order. `knows` says whether a label names a benchmark or an average."""
    lines = text.splitlines()
    found = [*_markdown(lines), *_html(text), *_pasted(lines, knows)]
    return sorted(found, key=lambda g: g.lines[0])


def cell_text(cell: str) -> str:
    """A cell without markup."""
    cell = re.sub(r"<[^<>]{0,500}>", " ", cell)
    cell = re.sub(r"!?\[([^\[\]]{0,500})\]\([^()]{0,500}\)", r"\1", cell)
    return html.unescape(re.sub(r"\*\*|__|[`~]", "", cell)).strip().strip("*_").strip()


def _markdown(lines: Sequence[str]) -> list[Grid]:
    found = []
    at = 1
    while at < len(lines):
        header = lines[at - 1]
        if "|" in header and _is_rule(lines[at]) and len(_cells(header)) >= 2:
            end = at + 1
            while end < len(lines) and "|" in lines[end] and lines[end].strip():
                end += 1
            rows = tuple(_cells(line) for line in lines[at + 1 : end])
            if rows and sum(map(len, rows)) <= _MAX_CELLS:
                found.append(Grid(_cells(header), rows, tuple(range(at + 2, end + 1))))
            at = end
        at += 1
    return found


def _is_rule(line: str) -> bool:
    return "|" in line and len(line) <= _MAX_LINE and _RULE.match(line.strip()) is not None


def _cells(line: str) -> tuple[str, ...]:
    inner = line.strip()
    inner = inner.removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return tuple(cell_text(c.replace("\\|", "|")) for c in re.split(r"(?<!\\)\|", inner))


def _pasted(lines: Sequence[str], knows: Callable[[str], bool]) -> list[Grid]:
    """Runs of lines such as 'BBH (3-Shot) 24.08' or 'BBH (3-Shot) 58.77 +2.51%'."""
    found: list[Grid] = []
    run: list[tuple[int, tuple[str, ...]]] = []
    for number, line in enumerate([*lines, ""], start=1):
        match = _PASTED.match(line) if "|" not in line and len(line) < 400 else None
        if match is not None and knows(match["label"]):
            run.append((number, (match["label"], *re.findall(_NUMBER, match["numbers"]))))
            continue
        if len(run) >= _MIN_PASTED and len({len(cells) for _, cells in run}) == 1:
            width = len(run[0][1])
            above = lines[run[0][0] - 2].split() if run[0][0] >= 2 else []
            header = tuple(above) if len(above) == width else ("",) * width
            found.append(Grid(header, tuple(c for _, c in run), tuple(n for n, _ in run)))
        run = []
    return found


def _html(text: str) -> list[Grid]:
    """HTML tables of moderate size; the parser sees nothing but them."""
    found: list[Grid] = []
    for opening in itertools.islice(re.finditer(r"<table\b", text, re.IGNORECASE), _MAX_HTML_TABLES):
        block = text[opening.start() : opening.start() + _MAX_HTML]
        end = re.search(r"</table\s*>", block, re.IGNORECASE)
        if end is None:
            continue
        reader = _TableReader()
        reader.feed(block[: end.end()])
        reader.close()
        above = text.count("\n", 0, opening.start())
        for rows in reader.tables:
            found.append(
                Grid(rows[0][1], tuple(r for _, r in rows[1:]), tuple(above + n for n, _ in rows[1:]))
            )
    return found


class _TableReader(HTMLParser):
    """Collects the rows of HTML tables; tables inside tables are read as rows of the outer one."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[tuple[int, tuple[str, ...]]]] = []
        self._rows: list[tuple[int, tuple[str, ...]]] | None = None
        self._cells: list[str] | None = None
        self._cell: list[str] | None = None
        self._line = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens a table, row or cell."""
        if tag == "table" and self._rows is None:
            self._rows = []
        elif tag == "tr" and self._rows is not None:
            self._end_row()
            self._cells, self._line = [], self.getpos()[0]
        elif tag in ("td", "th") and self._cells is not None:
            self._end_cell()
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        """Closes a table, row or cell."""
        if tag in ("td", "th"):
            self._end_cell()
        elif tag == "tr":
            self._end_row()
        elif tag == "table" and self._rows is not None:
            self._end_row()
            if len(self._rows) >= 2:
                self.tables.append(self._rows)
            self._rows = None

    def handle_data(self, data: str) -> None:
        """Adds text to the open cell."""
        if self._cell is not None:
            self._cell.append(data)

    def _end_cell(self) -> None:
        if self._cell is not None and self._cells is not None:
            self._cells.append(cell_text("".join(self._cell)))
        self._cell = None

    def _end_row(self) -> None:
        self._end_cell()
        if self._cells and self._rows is not None:
            self._rows.append((self._line, tuple(self._cells)))
        self._cells = None
