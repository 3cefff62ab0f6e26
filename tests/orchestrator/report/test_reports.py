"""Reports say what the comparisons, the scan and the card's verdicts say, verdict first."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from evals.claims.records import VerdictKind
from orchestrator.compare.remedy import reason_with_remedy
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.errors import RunError
from orchestrator.report import ReportKind, ReportPage, ReportRequest, build_report
from orchestrator.report.claims_report import claims_report
from orchestrator.report.deltas import signed
from orchestrator.report.page import DeltaTable, QuestionList, ReportMap, ReportTable, ReportTone
from orchestrator.report.questions import FlipGroup, choose_questions, marked_difference
from orchestrator.report.scan_report import read_scan
from orchestrator.store.pages import Pages
from tests.orchestrator.report.conftest import CONFIRMED, Stored
from tests.support.compared_sides import answers, side

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def report(pages: Pages, stored: Stored, *names: str, **options: object) -> ReportPage:
    request = ReportRequest.model_validate({"names": names, **options})
    return build_report(pages, request, stored.home, now=NOW)


def blocks(page: ReportPage, kind: type) -> list:  # type: ignore[type-arg] # blocks of one class
    return [block for section in page.sections for block in section.blocks if isinstance(block, kind)]


def facts(page: ReportPage) -> dict[str, str]:
    (methods,) = (section for section in page.sections if section.key == "methods")
    return {fact.name: fact.value for fact in methods.blocks[0].facts}  # type: ignore[union-attr] # a FactList


def test_a_run_begins_with_what_its_comparisons_show(pages: Pages, stored: Stored) -> None:
    page = report(pages, stored, stored.demo)
    assert page.kind is ReportKind.RUN
    assert (
        page.verdict.headline
        == "2 of 3 recipes are worse than base; none is better. 2 more were not compared."
    )
    assert page.verdict.tone is ReportTone.WORSE
    text = "\n".join(line.text for line in page.verdict.lines)
    assert "Average: 0 of 3 better, 2 worse." in text
    assert "Not compared: expanded-zeroed, slerp-with-noise. quantisation: Q4_1 (base), none" in text
    assert "Evaluate both with the same quantisation" in text
    assert any("Smoke test data" in notice.text for notice in page.notices)
    (table,) = blocks(page, ReportTable)
    assert [column.title for column in table.columns[:3]] == ["Verdict", "Mean", "IFEval"]
    assert (table.rows[0].name, table.rows[0].pinned) == ("base", True)
    means = [row.cells[1].value for row in table.rows[1:]]
    assert means == sorted(means, reverse=True)


def test_every_number_of_a_run_is_the_comparisons_own(pages: Pages, stored: Stored) -> None:
    page = report(pages, stored, stored.demo)
    (table,) = blocks(page, ReportTable)
    details = {row.name: row.details for row in table.rows}
    for comparison in run_comparisons(results_of_run(pages, stored.demo), stored.home):
        shown = details[comparison.candidate]
        rows = (*comparison.averages, *comparison.rows)
        assert [entry.delta for entry in shown.rows] == [r.delta and r.delta.delta_points for r in rows]
        assert [entry.tone is ReportTone.WORSE for entry in shown.rows] == [
            row.significant and row.delta is not None and row.delta.delta_points < 0 for row in rows
        ]
        assert [entry.tone is ReportTone.HINT for entry in shown.rows] == [row.alone for row in rows]


def test_methods_are_in_words(pages: Pages, stored: Stored) -> None:
    known = facts(report(pages, stored, stored.demo))
    assert known["Precision"] == "bfloat16"
    assert known["Chat template"] == "on"
    assert known["Seeds"] == "0, 1234, 1234, 1234"
    assert "21 tests" in known["Correction"]
    assert "sign-flip" in known["Test"]
    assert "torch 2.13.0" in known["Versions"]
    assert "node-1" not in str(known)


def test_flipped_questions_are_bounded_and_marked(pages: Pages, stored: Stored) -> None:
    (chosen,) = blocks(report(pages, stored, stored.demo, questions=7), QuestionList)
    assert len(chosen.questions) == 7
    assert not blocks(report(pages, stored, stored.demo, questions=0), QuestionList)
    first = next(q for q in chosen.questions if "MATH" in q.place)
    assert first.question is not None
    assert "How many marbles" in first.question
    assert [part.text for part in first.base if part.changed]
    left, right = marked_difference("the answer is 7 today", "the answer is 8 today")
    assert [(p.text, p.changed) for p in left] == [("the answer is ", False), ("7", True), (" today", False)]
    assert [p.text for p in right if p.changed] == ["8"]


def test_a_question_that_was_answered_in_part_counts_as_in_the_table() -> None:
    whole = side("musr", answers("musr"))
    base, candidate = (
        dataclasses.replace(
            whole, samples=tuple(s.model_copy(update={"correct": value}) for s in whole.samples[:3])
        )
        for value in (0.6, 0.9)
    )
    key = ("leaderboard-v2", "musr")
    groups = [FlipGroup("candidate", key, gained) for gained in (True, False)]
    chosen, _ = choose_questions(groups, lambda _: ([base], [candidate]), lambda _: {}, 9)
    assert [question.gained for question in chosen] == [True, True, True]


def test_a_live_run_says_so_and_concludes_nothing_of_what_is_missing(pages: Pages, stored: Stored) -> None:
    page = report(pages, stored, stored.live)
    assert "12 of 18 jobs are done" in page.notices[0].text
    assert any("still without a score" in line.text for line in page.verdict.lines)
    (table,) = blocks(page, ReportTable)
    assert table.rows[-1].cells[0].text == "no score"


def test_a_comparison_of_one_candidate(pages: Pages, stored: Stored) -> None:
    page = report(pages, stored, "whole stack twice", run=stored.demo)
    assert page.kind is ReportKind.COMPARISON
    assert page.verdict.headline == "whole stack twice is worse than base."
    (table,) = blocks(page, DeltaTable)
    assert (table.rows[0].label, table.rows[0].tone) == ("Average", ReportTone.WORSE)
    page = report(pages, stored, "block (12, 14)", run=stored.demo)
    assert page.verdict.headline == "No difference between block (12, 14) and base is shown."
    assert "would mostly have been missed" in page.verdict.lines[0].text


def test_an_imported_result_against_a_candidate(pages: Pages, stored: Stored) -> None:
    page = report(pages, stored, "07e40001", base="whole stack twice")
    assert page.title == "someone/other-7B against whole stack twice"
    assert page.verdict.headline == "someone/other-7B is better than whole stack twice."
    assert "unpaired" in facts(page)["Test"]
    assert any("Evaluate the side that lacks the score" in line.text for line in page.verdict.lines)


@pytest.mark.parametrize("part", ["search", "confirmation"])
def test_a_scan_and_its_confirmation_are_one_report(pages: Pages, stored: Stored, part: str) -> None:
    page = report(pages, stored, getattr(stored, part))
    assert page.kind is ReportKind.SCAN
    assert page.verdict.headline == "1 of the 3 best of 21 paths has a real gain: (3, 5)."
    table = blocks(page, DeltaTable)[0]
    words = {row.label: row.word for row in table.rows}
    assert words == {"(3, 5)": "real", "(2, 4)": "not confirmed", "(4, 5)": "worse"}
    large, *small = blocks(page, ReportMap)
    assert large.large
    assert len(large.cells) == 21
    assert {(cell.i, cell.j): cell.mark for cell in large.cells if cell.mark} == {
        (3, 5): ReportTone.BETTER,
        (2, 4): ReportTone.PLAIN,
        (4, 5): ReportTone.WORSE,
    }
    assert len(small) == 2
    assert any("no leaderboard scores" in notice.text for notice in page.notices)


def test_a_scan_counts_every_path_that_it_tried(pages: Pages, stored: Stored) -> None:
    result = read_scan(pages, pages.run(stored.search), stored.home)
    assert result.confirmation is not None
    assert result.confirmation.n_tried == 21
    assert len(result.confirmation.paths) == len(CONFIRMED)


def test_a_card_and_its_verdicts(pages: Pages, stored: Stored) -> None:
    page = report(pages, stored, "ca4d0001")
    assert page.kind is ReportKind.CLAIMS
    assert page.verdict.headline == "Of 3 claims, 1 reproduced, 1 not reproduced and 1 not comparable."
    assert page.verdict.tone is ReportTone.FAILS
    (table,) = blocks(page, ReportTable)
    assert [row.cells[0].text for row in table.rows] == [
        "✓ reproduced",
        "✗ not reproduced",
        "⊘ not comparable",
    ]
    assert {f.label for f in table.filters} == {str(kind) for kind in VerdictKind} - {"impossible"}
    unchecked = claims_report(pages, "ca4d0002", ReportRequest(names=("x",)), now=NOW)
    assert "None of the 3 claims has been checked" in unchecked.verdict.headline


def test_a_card_is_found_by_its_model(pages: Pages, stored: Stored) -> None:
    assert report(pages, stored, "demo/slerp-with-noise").kind is ReportKind.CLAIMS


@pytest.mark.parametrize("name", ["nothing", "", "%"])
def test_unknown_names_are_refused(pages: Pages, stored: Stored, name: str) -> None:
    with pytest.raises(RunError, match="There is no run, card, candidate or imported result"):
        report(pages, stored, name)


def test_words_and_signs() -> None:
    assert [signed(value) for value in (1.24, -0.06, 0.0, -0.04)] == ["+1.2", "−0.1", "0.0", "0.0"]
    assert "Evaluate the side that lacks the score" in reason_with_remedy("only the candidate has it")
    assert reason_with_remedy("its samples are gone; import it again").endswith("import it again.")
    assert "the same chat template" in reason_with_remedy("chat template: on (base), off (candidate)")
