"""The written files: self-contained, bounded, escaped; and how the command refuses bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.charts.contrast import contrast, readable
from orchestrator.charts.theme import LOOKS, Theme
from orchestrator.compare.run_comparisons import results_of_run
from orchestrator.compare.verdict import run_verdict
from orchestrator.report import ReportRequest, build_report
from orchestrator.report.html import render_html
from orchestrator.report.leaderboard import MOST_ROWS, BoardData, board_table, forest
from orchestrator.report.markdown import render_markdown
from orchestrator.report.page import FlippedQuestion, QuestionList, ReportSection, ResponsePart
from orchestrator.report.questions import LONGEST_QUESTION, LONGEST_RESPONSE
from orchestrator.report.run_report import _boards, _compared
from orchestrator.store.pages import Pages
from tests.orchestrator.report.conftest import Stored

Call = Callable[..., tuple[int, str, str]]
MOST_BYTES = 3_000_000


def test_one_file_that_names_nothing_outside(pages: Pages, stored: Stored) -> None:
    for name in (stored.demo, stored.hostile, stored.search, "ca4d0001"):
        text = render_html(build_report(pages, ReportRequest(names=(name,)), stored.home))
        assert not re.search(
            r"""(?:src|href|srcset|action|data|poster)\s*=\s*["']?(?!#|data:,)[^"'>]""", _tags(text)
        )
        assert "@import" not in text
        assert "url(" not in text
        assert " style=" not in _tags(text)
        assert re.search(r"""content="default-src &#39;none&#39;; style-src &#39;sha256-""", text)


def _tags(text: str) -> str:
    """The tags of a page, without style, script and text."""
    body = re.sub(r"(?s)<(style|script)>.*?</\1>", "", text)
    return " ".join(re.findall(r"<(?!meta)[a-z][^>]*>", body))


def test_markdown_holds_no_markup_of_others(pages: Pages, stored: Stored) -> None:
    text = render_markdown(build_report(pages, ReportRequest(names=(stored.hostile,)), stored.home))
    outside, fenced = _split_fences(text)
    assert not re.search(r"(?<!\\)[<>\[`]", re.sub(r"(?m)^> ", "", outside).replace("<0.001", ""))
    assert not any(mark in text for mark in ("\x00", "\x1b", "\u202e"))
    assert "\n# twin" not in outside
    assert all("```" not in line for line in fenced)
    assert len(text) < 60_000


def _split_fences(text: str) -> tuple[str, list[str]]:
    """Text outside code blocks, and the lines inside; every fence has to be closed."""
    outside, inside, fence = [], [], ""
    for line in text.splitlines():
        mark = re.match(r"`{3,}$", line)
        if fence:
            if line == fence:
                fence = ""
            else:
                inside.append(line)
        elif mark:
            fence = line
        else:
            outside.append(line)
    assert not fence
    return "\n".join(outside), inside


def test_markdown_draws_the_forest_as_text(pages: Pages, stored: Stored) -> None:
    text = render_markdown(build_report(pages, ReportRequest(names=(stored.demo,)), stored.home))
    assert re.search(r"whole stack twice +├─+▼─+┤", text)
    assert "**2 of 3 recipes are worse than base; none is better\\." in text


def test_500_recipes_fit_into_three_megabytes(pages: Pages, stored: Stored) -> None:
    board, page = (
        _board(pages, stored, 100),
        build_report(pages, ReportRequest(names=(stored.demo,)), stored.home),
    )
    assert len(board.results) == 500
    table, plot = board_table(board, "Leaderboard"), forest(board)
    assert plot is not None
    long = (ResponsePart(text="word " * (LONGEST_RESPONSE // 5), changed=True),)
    question = FlippedQuestion(
        candidate="c" * 80, place="p" * 80, gained=True, question="?" * LONGEST_QUESTION,
        target="t" * 100, base=long, response=long,
    )  # fmt: skip
    questions = QuestionList(base="base", questions=(question,) * 100)
    sections = tuple(
        ReportSection(key=f"s{n}", title="s", blocks=(block,))
        for n, block in enumerate((plot, table, questions))
    )
    text = render_html(page.model_copy(update={"sections": (*sections, *page.sections[-2:])}))
    assert len(table.rows) == 501
    assert sum(row.details is not None for row in table.rows) == 500
    assert len(text.encode()) < MOST_BYTES


def test_more_recipes_than_fit_are_cut_with_a_note(pages: Pages, stored: Stored) -> None:
    board = _board(pages, stored, 240)
    table = board_table(board, "Leaderboard")
    assert len(table.rows) == MOST_ROWS + 1
    assert "1,000 of 1,200 recipes" in table.notes[0]
    real = sum(row.group == "worse" for row in table.rows)
    assert real == 480


def _board(pages: Pages, stored: Stored, times: int) -> BoardData:
    """The demo's leaderboard with each candidate many times under long names."""
    results = results_of_run(pages, stored.demo)
    families = _compared(results, stored.home, 0, force=True, progress=lambda done, total: None)
    (board,) = _boards(families, pages.candidates(stored.demo), ended=True)
    many, comparisons = [], []
    for number in range(times):
        for result, comparison in zip(board.results, board.comparisons, strict=True):
            name = f"some-organisation/{result.candidate.name} of seven, number {number:03d}"
            candidate = result.candidate.model_copy(update={"name": name})
            many.append(result.model_copy(update={"candidate": candidate}))
            comparisons.append(comparison.model_copy(update={"candidate": name}))
    verdict = run_verdict("base", comparisons)
    return BoardData("smoke", "vllm", board.base, tuple(many), tuple(comparisons), verdict, ())


def test_coloured_text_can_be_read_in_both_themes() -> None:
    for theme in Theme:
        look = LOOKS[theme]
        for tone in (look.better, look.worse, look.neutral):
            for paper in (look.paper, tone.tint):
                assert contrast(readable(tone.text, paper, look.ink), paper) >= 4.5


def test_the_command_writes_and_says_what(call: Call, stored: Stored, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.html"
    code, text, error = call(stored.demo, "--out", str(out))
    assert (code, error) == (0, "")
    assert text.startswith("2 of 3 recipes are worse than base")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    code, text, _ = call(stored.search[:14], "--out", str(tmp_path / "scan.md"), "--json")
    written = json.loads(text)
    assert code == 0
    assert (written["kind"], written["format"]) == ("scan", "markdown")
    assert written["size_bytes"] == (tmp_path / "scan.md").stat().st_size
    code, text, _ = call("block (12, 14)", "--run", stored.demo, "--out", "-")
    assert code == 0
    assert text.startswith("# block \\(12, 14\\) against base")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("nothing --out r.html", "There is no run, card, candidate or imported result"),
        ("{demo} --out {folder}", "is a folder; name a file in it"),
        ("{demo} --out r.txt", "ends neither in .html nor in .md"),
        ("{demo} --out /proc/none/r.html", "/proc/none cannot be used"),
        ("{demo} --out /dev/null/r.html", "since /dev/null is no folder"),
        ("{demo} --out r.html --questions 900", "--questions"),
        ("{demo} --out r.html --format pdf", "--format"),
        ("{demo} --out - --json", "choose one of them"),
        ("{demo}", "--out"),
        ("base --run none --out r.html", "There is no run 'none'"),
        ("07e40001 --base nobody --out r.html", "There are no scores of nobody"),
    ],
)
def test_bad_input_is_one_sentence(
    call: Call, stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = call(*(w.format(demo=stored.demo, folder=tmp_path) for w in words.split()))
    assert code == 2
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
