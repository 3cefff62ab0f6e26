"""A comparison is corrected for all that was tried: candidates, benchmarks, averages and engines."""

from __future__ import annotations

import pytest

from orchestrator.compare import (
    compare,
    comparison_text,
    correct,
)
from tests.support.compared_sides import V2, answers, flipped, several, side


def test_a_sweep_is_corrected_for_how_many_it_tried() -> None:
    """One lucky candidate of forty: significant alone, not after forty tries."""
    right = answers("musr")
    base = side("musr", right)
    lucky = side("musr", flipped(right, gain=5, lose=1))
    alone = compare([base], {"lucky": [lucky]}, [V2])[0].rows[0]
    assert alone.significant
    among = compare([base], {"lucky": [lucky], **{f"c{i}": [base] for i in range(39)}}, [V2])
    assert among[0].n_tests == 40
    assert not among[0].rows[0].significant
    told = compare([base], {"lucky": [lucky]}, [V2], other_tests=39)[0]
    assert told.rows[0].p_corrected == pytest.approx(among[0].rows[0].p_corrected)


def test_averages_are_corrected_with_all_that_was_tried() -> None:
    """Before, averages were a family of their own: of 465 paths without an effect the best was often called better."""
    names = ("musr", "gpqa")
    base = several(names, 0)
    lucky = several(names, gain=4, lose=1)
    (alone,) = compare(base, {"lucky": lucky}, [V2])
    assert (alone.n_tests, alone.n_candidates) == (3, 1)
    assert alone.averages[0].significant
    among = compare(base, {"lucky": lucky, **{f"c{i}": base for i in range(9)}}, [V2])[0]
    (told,) = compare(base, {"lucky": lucky}, [V2], other_candidates=9)
    for found in (among, told):
        assert (found.n_tests, found.n_candidates) == (30, 10)
        assert found == among
        p_values = sorted((r.delta.p, r.p_corrected) for r in (*found.rows, *found.averages) if r.delta)
        assert p_values[0][1] == pytest.approx(min(1.0, 30 * p_values[0][0]))
        (average,) = found.averages
        assert average.delta is not None
        assert (average.p_corrected or 0) >= min(1.0, 28 * average.delta.p)
    (strict,) = compare(base, {"lucky": lucky}, [V2], other_candidates=464)
    assert strict.n_tests == 465 * 3
    assert not any(row.significant for row in (*strict.rows, *strict.averages))


def test_engines_of_one_run_are_one_family() -> None:
    names = ("musr", "gpqa")
    (found,) = compare(several(names, 0), {"c": several(names, gain=5, lose=1)}, [V2])
    both = correct([found, found.model_copy(update={"candidate": "c, another engine"})])
    assert [c.n_tests for c in both] == [6, 6]
    assert correct([found]) == (found,)
    assert correct(both, other_candidates=2)[0].n_tests == 12
    assert correct([]) == ()


def test_the_table_says_what_was_corrected_and_what_an_interval_alone_means() -> None:
    names = ("musr", "gpqa")
    (alone,) = compare(several(names, 0), {"c": several(names, gain=5, lose=1)}, [V2])
    text = " ".join(comparison_text([alone]).split())
    assert (
        "p corr.: Holm, for 3 tests: every benchmark and every average of 1 candidate; better or worse is p corr. < 0.05"
        in text
    )
    assert "Intervals: each for its row alone." in text
    (many,) = compare(several(names, 0), {"c": several(names, gain=4, lose=1)}, [V2], other_candidates=464)
    assert any(row.alone for row in many.rows)
    text = " ".join(comparison_text([many]).split())
    assert "Holm, for 1,395 tests: every benchmark and every average of 465 candidates" in text
    assert "p < 0.05 on its own; of 1,395 tests without any effect about 70 would show as much." in text
    (single,) = compare(several(("musr",), 0), {"c": several(("musr",), gain=9)}, [V2])
    assert "p corr.: one test: nothing to correct;" in " ".join(comparison_text([single]).split())
