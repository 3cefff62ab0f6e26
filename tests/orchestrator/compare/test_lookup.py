"""Which stored result a name stands for, in stores with many runs, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.suite import load_suite
from orchestrator.compare.lookup import find_result
from orchestrator.compare.sides import compare_names
from orchestrator.errors import RunError
from orchestrator.store import Store
from tests.support.demo_stores import Maker
from tests.support.made_results import Made, block

BASE = Made("base")
PATH = block(12, 14, ability=0.4)


def maker(store: Store, home: Path, seed: int = 0, **fields: object) -> Maker:
    suite = load_suite("smoke")
    short = suite.model_copy(update={"benchmarks": suite.benchmarks[:2]})
    return Maker(store, home, short, n=6, whole=False, seed=seed, **fields)  # type: ignore[arg-type] # its fields


@pytest.mark.parametrize("run_is_named", [True, False])
def test_an_old_run_is_compared_however_many_newer_ones_there_are(
    store: Store, tmp_path: Path, run_is_named: bool
) -> None:
    old = maker(store, tmp_path).run((BASE, PATH))
    for number in range(1, 26):
        # With --run the newer ones have scores; without it they have none, or probes alone.
        newer = maker(store, tmp_path, seed=number if run_is_named else 100)
        newer.run((BASE, PATH)) if run_is_named and number < 4 else newer.create((BASE, PATH))
    run_id = old if run_is_named else None
    assert find_result(store, "base", run_id).run_id == old
    (compared,) = compare_names(store, [PATH.name], "base", tmp_path, run_id=run_id)
    assert all(row.delta is not None for row in compared.rows)


def test_candidates_of_two_runs_are_each_compared_with_their_own_base(store: Store, tmp_path: Path) -> None:
    able = Made("base", built=True, ability=0.9)
    x, y = PATH, Made("y", built=True, ability=0.5)
    one = maker(store, tmp_path).run((BASE, x))
    two = maker(store, tmp_path, seed=1).run((able, y, Made("z", built=True)))
    of_x, of_y = compare_names(store, [x.name, y.name], "base", tmp_path)
    alone = [
        compare_names(store, [name], "base", tmp_path, run_id=run)[0]
        for name, run in ((x.name, one), (y.name, two))
    ]
    for compared, single in zip((of_x, of_y), alone, strict=True):
        assert [r.base for r in compared.rows] == [r.base for r in single.rows]
        assert [r.delta for r in compared.rows] == [r.delta for r in single.rows]
        assert all(r.delta is not None for r in compared.rows)
    assert (of_x.base, of_y.base) == (f"base of run {one}", f"base of run {two}")
    # Three candidates were tried on the way to these two.
    assert of_x.n_tests == of_y.n_tests >= 6


def test_candidates_of_two_runs_against_a_named_base_are_corrected_for_all_that_both_tried(
    store: Store, tmp_path: Path
) -> None:
    x, y, other = PATH, Made("y", built=True, ability=0.5), Made("other", built=True, ability=0.2)
    maker(store, tmp_path).run((BASE, x, other))
    maker(store, tmp_path, seed=1).run((BASE, y, *(Made(f"z{n}", built=True) for n in range(5))))
    of_x, of_y = compare_names(store, [x.name, y.name], "other", tmp_path)
    assert of_x.n_candidates == of_y.n_candidates == 8  # two of the first run, six of the second
    (reverse, _) = compare_names(store, [y.name, x.name], "other", tmp_path)
    assert reverse.n_candidates == 8
    assert reverse.n_tests == of_x.n_tests


def test_a_base_that_is_named_is_taken_from_the_candidates_own_run(store: Store, tmp_path: Path) -> None:
    x, other = Made("x", built=True), Made("other", ability=0.2, built=True)
    own = maker(store, tmp_path).run((BASE, x, other))
    maker(store, tmp_path, seed=1).run((BASE, Made("other", ability=0.9, built=True)))
    (compared,) = compare_names(store, ["x"], "other", tmp_path)
    (same,) = compare_names(store, ["x"], "other", tmp_path, run_id=own)
    assert compared == same


def test_a_name_that_stands_for_different_checkpoints_is_refused_with_its_runs(
    store: Store, tmp_path: Path
) -> None:
    one = maker(store, tmp_path).run((BASE, PATH))
    same = maker(store, tmp_path, seed=1).run((BASE, PATH))
    assert find_result(store, "base").run_id == same
    other = maker(store, tmp_path, seed=2).run((Made("base", built=True), PATH))
    with pytest.raises(RunError, match="base stands for 2 different checkpoints") as caught:
        find_result(store, "base")
    assert other in str(caught.value)
    assert same in str(caught.value)
    assert "--run" in str(caught.value)
    assert find_result(store, "base", one).run_id == one
    with pytest.raises(RunError, match="There are no scores of nobody in the store"):
        compare_names(store, ["nobody"], "base", tmp_path)
    with pytest.raises(RunError, match="There are no scores of nobody in run"):
        find_result(store, "nobody", one)
