import statistics

import pytest

from evals.probes import PathValues, ProbeError, RankMethod, rank
from evals.probes.ranking import find_base

N = 4
BASE = (0, 1, 2, 3)


def table(*rows: tuple[tuple[int, ...], float, float]) -> list[PathValues]:
    return [PathValues(layers=layers, values={"math": m, "eq": e}) for layers, m, e in rows]


ROWS = table(
    (BASE, 0.5, 0.7),
    ((0, 1, 1, 2, 3), 0.7, 0.7),
    ((0, 1, 2, 2, 3), 0.5, 0.8),
    ((0, 0, 1, 2, 3), 0.2, 0.6),
    ((0, 1, 2, 3, 3), 0.6, 0.75),
)


def test_balanced_z_is_the_published_formula() -> None:
    found = rank(ROWS, ("math", "eq"), N)
    math = [row.values["math"] - 0.5 for row in ROWS[1:]]
    eq = [row.values["eq"] - 0.7 for row in ROWS[1:]]
    wanted = {
        row.layers: (m - statistics.fmean(math)) / statistics.pstdev(math)
        + (e - statistics.fmean(eq)) / statistics.pstdev(eq)
        for row, m, e in zip(ROWS[1:], math, eq, strict=True)
    }
    assert {path.layers: path.score for path in found.paths} == pytest.approx(wanted)
    assert [path.score for path in found.paths] == sorted(wanted.values(), reverse=True)
    assert [path.rank for path in found.paths] == [1, 2, 3, 4]
    assert BASE not in {path.layers for path in found.paths}
    assert found.spreads["math"] == pytest.approx(statistics.pstdev(math))


def test_mean_delta_is_in_probe_units() -> None:
    found = rank(ROWS, ("math", "eq"), N, RankMethod.MEAN_DELTA)
    assert found.paths[0].layers == (0, 1, 1, 2, 3)
    assert found.paths[0].score == pytest.approx(0.1)
    assert found.paths[-1].score == pytest.approx(-0.2)


def test_ties_go_by_emotion_then_arithmetic() -> None:
    rows = table((BASE, 0.5, 0.5), ((0, 0, 1, 2, 3), 0.6, 0.4), ((0, 1, 1, 2, 3), 0.4, 0.6))
    assert [p.layers for p in rank(rows, ("math", "eq"), N).paths] == [(0, 1, 1, 2, 3), (0, 0, 1, 2, 3)]
    assert [p.layers for p in rank(rows, ("eq", "math"), N).paths] == [(0, 0, 1, 2, 3), (0, 1, 1, 2, 3)]


def test_a_probe_without_spread_does_not_count() -> None:
    rows = table((BASE, 0.5, 0.5), ((0, 0, 1, 2, 3), 0.6, 0.5), ((0, 1, 1, 2, 3), 0.4, 0.5))
    assert [p.score for p in rank(rows, ("math", "eq"), N).paths] == pytest.approx([1, -1])


def test_paths_without_a_value_are_left_out_and_counted() -> None:
    rows = [*ROWS, PathValues(layers=(0, 1), values={"math": 0.9})]
    found = rank(rows, ("math", "eq"), N)
    assert found.left_out == 1
    assert len(found.paths) == 4


def test_the_base_is_found_or_named_as_missing() -> None:
    assert find_base(ROWS, N) == (ROWS[0], None)
    base, warning = find_base(ROWS[1:], N)
    assert len(base.layers) == 5
    assert warning is not None
    assert "no unmodified path" in warning
    with pytest.raises(ProbeError, match="no path to rank"):
        find_base([], N)
    with pytest.raises(ProbeError, match="no value for other"):
        rank(ROWS, ("math", "other"), N)


def test_a_scan_of_the_base_alone() -> None:
    assert rank(ROWS[:1], ("math",), N).paths == ()
