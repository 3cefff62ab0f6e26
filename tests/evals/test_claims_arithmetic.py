"""A card's own arithmetic: averages, changes, contradictions, counts of parameters."""

from __future__ import annotations

from statistics import fmean

from evals.claims.arithmetic import (
    RecipeSize,
    base_of_row,
    bases_in,
    check_averages,
    check_changes,
    check_contradictions,
    check_parameters,
    fitting_base,
)
from evals.claims.board import board_rows, rows_of
from evals.claims.records import CheckOutcome
from evals.suite import load_suite
from tests.support.card_figures import CHANGES, RYS, figure, rys

V2 = load_suite("leaderboard-v2")
ROWS = board_rows()


def test_averages() -> None:
    (good,) = check_averages(rys(), [V2])
    assert good.outcome is CheckOutcome.HOLDS
    (wrong,) = check_averages(rys("45.75"), [V2])
    assert wrong.outcome is CheckOutcome.FAILS
    assert "44.75" in wrong.sentence
    five = [f for f in rys("50.00") if f.benchmark != "gpqa"]
    (open_,) = check_averages(five, [V2])
    assert open_.outcome is CheckOutcome.NOTE
    mean = fmean(f.value for f in five[1:])
    (fewer,) = check_averages([figure("Avg.", f"{mean:.2f}"), *five[1:]], [V2])
    assert fewer.outcome is CheckOutcome.NOTE
    assert "5 of 6" in fewer.sentence
    assert check_averages([figure("Avg.", "10.00")], [V2]) == ()


def test_an_average_may_leave_out_a_column_that_nobody_knows() -> None:
    (check,) = check_averages([*rys(), figure("Elo", "99.00")], [V2])
    assert check.outcome is CheckOutcome.HOLDS


def test_the_seven_percentages_follow_relatively() -> None:
    base = base_of_row(rows_of("MaziyarPanahi/calme-2.1-qwen2-72b", ROWS)[0])
    changes = [figure(k, v, group=1) for k, v in CHANGES.items()]
    (check,) = check_changes([*rys(), *changes], [base])
    assert check.outcome is CheckOutcome.NOTE
    assert (
        "the 7 figures marked '%' follow from MaziyarPanahi/calme-2.1-qwen2-72b as relative changes"
        in check.sentence
    )
    assert "+3.57 points" in check.sentence
    assert fitting_base([*rys(), *changes], [base]) == base


def test_changes_in_points_and_changes_that_do_not_follow() -> None:
    base = [figure(k, f"{float(v) - 1:.2f}", subject="base") for k, v in RYS.items()]
    points = [figure(k, "1.00%", group=1) for k in RYS]
    (good,) = check_changes([*rys(), *base, *points], bases_in([*rys(), *base]))
    assert good.outcome is CheckOutcome.HOLDS
    assert "differences in points" in good.sentence
    wrong = [figure(k, "5.00%", group=1) for k in RYS]
    (bad,) = check_changes([*rys(), *base, *wrong], bases_in([*rys(), *base]))
    assert bad.outcome is CheckOutcome.FAILS
    assert "IFEval 5.00% would be +1.27 % or +1.00 points" in bad.sentence
    (unknown,) = check_changes([*rys(), *wrong], [])
    assert unknown.outcome is CheckOutcome.NOTE


def test_the_same_score_twice_with_two_values() -> None:
    twice = [figure("BBH", "58.77"), figure("BBH (3-Shot)", "58.8", group=1, line=9)]
    assert check_contradictions(twice) == ()
    (found,) = check_contradictions([twice[0], figure("BBH", "59.77", group=1, line=9)])
    assert found.outcome is CheckOutcome.FAILS
    assert found.line == 9


def test_parameters_that_do_not_fit_the_recipe() -> None:
    """(45, 52) of the 80 layers makes 87; the board's count is that of 86."""
    recipe = RecipeSize(
        name="(45, 52)", layers=87, parameters=78_843_000_000, parameters_per_layer=877_685_000
    )
    wrong = check_parameters(77.965, 0.0005, recipe, "the board")
    assert wrong.outcome is CheckOutcome.FAILS
    assert "77.965 B, which is 86 layers" in wrong.sentence
    assert check_parameters(78.843, 0.0005, recipe, "the board").outcome is CheckOutcome.HOLDS
    vague = check_parameters(13.0, 0.5, recipe, "the name")
    assert vague.outcome is CheckOutcome.FAILS
    assert "which is" not in vague.sentence
