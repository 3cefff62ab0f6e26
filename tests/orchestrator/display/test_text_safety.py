"""Foreign text is only text wherever it is shown: terminal, log, CSV, Markdown, HTML, error messages."""

from __future__ import annotations

import csv
import io
import sys

import pytest
from rich.table import Table

from dashboard.widgets import csv_of
from orchestrator import cli
from orchestrator.display.text_safety import Terminal, cell, entity, escaped, line, plain
from orchestrator.run.run import to_stderr

HOSTILE = "a\x1b[2J\x1b]0;title\x07 [bold red]b[/] :smile: \u202egnp.exe\u202c \x9b31m https://x.org <b>"


def shown(*things: object, terminal: bool = False) -> str:
    buffer = io.StringIO()
    console = Terminal(file=buffer, width=200, force_terminal=terminal)
    for thing in things:
        console.print(thing)
    return buffer.getvalue()


def table_of(text: str) -> Table:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    return table


@pytest.mark.parametrize("what", [HOSTILE, table_of(HOSTILE)], ids=["text", "table"])
def test_the_terminal_shows_markup_and_control_characters_as_signs(what: object) -> None:
    text = shown(what)
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
    assert "[bold red]b[/]" in text
    assert ":smile:" in text


def test_the_terminal_keeps_its_own_styles() -> None:
    buffer = io.StringIO()
    Terminal(file=buffer, force_terminal=True, color_system="standard").print("x\x1b[1m", style="red")
    assert buffer.getvalue().startswith("\x1b[31mx\u241b[1m")


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text).startswith("'")
    (row,) = list(csv.DictReader(io.StringIO(csv_of([{"a": text}]).decode())))
    assert row["a"].startswith("'")


@pytest.mark.parametrize("value", ["-1.5", "+2", "1e5", "BBH", 3, None, -2.0])
def test_numbers_and_words_are_cells_as_they_are(value: object) -> None:
    assert cell(value) == value


def test_one_rule_for_text_markdown_and_html() -> None:
    assert "\x1b" not in plain(HOSTILE) + line(HOSTILE) + escaped(HOSTILE) + entity(HOSTILE)
    assert "<b>" not in entity(HOSTILE)
    assert "https://" not in escaped(HOSTILE)
    assert plain("x" * 30_000).endswith("(the first 20,000 of 30,000 characters)")


def test_errors_and_notes_are_one_clean_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mergeboard", "plan", "no\x1b[31m\u202e\nsuch.yaml"])
    with pytest.raises(SystemExit):
        cli.main()
    to_stderr("a\x1b[31m")
    error = capsys.readouterr().err
    assert not {"\x1b", "\u202e"} & set(error)
    assert len(error.splitlines()) == 2
