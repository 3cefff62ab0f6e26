"""The tables of a merge search on narrow and wide terminals."""

from __future__ import annotations

import io

import pytest

from evals.stats import Delta, Interval, SignificanceTest
from orchestrator.charts.merge_data import gradient_label, parameter_label
from orchestrator.display.text_safety import Terminal
from orchestrator.search.merges.fitted_table import TableColumn, fitted_table
from orchestrator.search.merges.tables import (
    confirmation_table,
    methods_table,
    print_merge_search,
    suite_table,
    values_table,
)
from orchestrator.store.trial_records import Arm
from tests.support.merge_view import NAMES, merge_view

DELTA = Delta(
    base=20, candidate=21.25, delta_points=1.25, delta_percent=6.25, interval=Interval(low=0.1, high=2.4), stderr_points=0.6,
    detectable_points=1.5, test=SignificanceTest.SIGN_FLIP, p=0.03, n=100, gained=None, lost=None,
)  # fmt: skip


def text_of(width: int) -> list[str]:
    buffer = io.StringIO()
    print_merge_search(merge_view(), Terminal(file=buffer, width=width, color_system=None))
    return buffer.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_cell_is_cut_short_and_no_line_is_too_long(width: int) -> None:
    lines = text_of(width)
    tables = lines[: next(n for n, text in enumerate(lines) if "have no value" in text)]
    assert max(map(len, tables)) <= width
    row = next(text for text in lines if text.startswith("trial 7 search") and "not confirmed" in text)
    assert "…" not in row.replace(" … ", "")
    assert "+0.0000" in row


def test_what_was_left_out_is_told() -> None:
    narrow = "\n".join(text_of(80))
    assert "In a wider terminal also: expected Δ, p, all parents, p Holm." in narrow
    assert "In a wider terminal" not in "\n".join(text_of(200))


def test_wide_tables_have_every_column() -> None:
    table = confirmation_table(merge_view(), 200)
    assert table is not None
    assert [str(column.header) for column in table.columns] == [
        "merge", "by", "search Δ", "expected Δ", "confirmed Δ", "95 % interval", "p, all parents", "p Holm", "p x 18",
        "Δ to the average", "finding",
    ]  # fmt: skip
    assert len(values_table(merge_view(), 5, 200).columns) == 5 + len(NAMES)


def test_benchmarks_stay_and_p_goes_where_a_terminal_is_narrow() -> None:
    view = merge_view()
    names = ["IFEval", "BBH", "MATH Lvl 5", "GPQA", "MuSR", "MMLU-PRO"]
    rows = {candidate: dict.fromkeys(names, DELTA) for candidate in ("plain average", "trial 5")}
    assert view.report.confirmation is not None
    confirmation = view.report.confirmation.model_copy(update={"suite": "smoke", "benchmarks": rows})
    view = view.model_copy(update={"report": view.report.model_copy(update={"confirmation": confirmation})})
    narrow, wide = suite_table(view, 80), suite_table(view, 140)
    assert narrow is not None
    assert wide is not None
    assert len(narrow.columns) == len(wide.columns) == 7
    assert list(wide.columns[1].cells) == ["+1.25 (0.030)"] * 2
    assert list(narrow.columns[1].cells) == ["+1.25"] * 2


def test_a_rival_that_tried_a_confirmed_merge_is_confirmed_by_it() -> None:
    view = merge_view()
    best = view.best(Arm.RANDOM)
    assert best is not None
    trials = list(view.trials)
    trials[best.number] = best.model_copy(update={"recipe_digest": trials[5].recipe_digest})
    table = methods_table(view.model_copy(update={"trials": tuple(trials)}))
    assert table is not None
    assert list(table.columns[-1].cells) == ["–", "0.4981"]


def test_the_first_column_stays() -> None:
    table = fitted_table("t", [TableColumn("name", ["a" * 30], "left"), TableColumn("value", ["1"])], 10)
    assert [str(column.header) for column in table.columns] == ["name"]


def test_pictures_use_labels_and_reports_of_older_versions_have_short_names() -> None:
    view = merge_view()
    assert parameter_label(view, NAMES[0]) == "models.0 weight[0]"
    labelled = [
        p.model_copy(update={"label": f"arithmetic: weight[{n}]"})
        for n, p in enumerate(view.report.parameters)
    ]
    view = view.model_copy(update={"report": view.report.model_copy(update={"parameters": tuple(labelled)})})
    assert parameter_label(view, NAMES[0]) == "arithmetic: weight[0]"
    assert gradient_label(view, "models.0.parameters.weight") == "arithmetic: weight"
