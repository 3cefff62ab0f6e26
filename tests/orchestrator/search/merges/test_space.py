"""Searched numbers of a mergekit document: how they are written, and how values take their place."""

from __future__ import annotations

import copy

import pytest

from orchestrator.search.merges.course import grid
from orchestrator.search.merges.sampler import distribution_of
from orchestrator.search.merges.space import Space, SpaceError

DOCUMENT = {
    "merge_method": {"choices": ["ties", "dare_ties"]},
    "base_model": "a",
    "parameters": {"normalize": True, "lambda": {"search": [0.01, 10], "log": True}},
    "models": [
        {"model": "b", "parameters": {"weight": {"search": [0, 1], "points": 3}, "density": {"search": [0.1, 0.9]}}},
        {"model": "c", "parameters": {"weight": {"search": {"choice": [0.25, 0.5]}}, "n": {"search": [2, 8], "step": 2}}},
    ],
}  # fmt: skip


def test_every_form_is_read_and_filled() -> None:
    space, before = Space.of(DOCUMENT), copy.deepcopy(DOCUMENT)
    assert space.names == (
        "merge_method", "parameters.lambda", "models.0.parameters.weight[0]", "models.0.parameters.weight[1]",
        "models.0.parameters.weight[2]", "models.0.parameters.density", "models.1.parameters.weight", "models.1.parameters.n",
    )  # fmt: skip
    assert space.gradients == {"models.0.parameters.weight": space.names[2:5]}
    values = dict(zip(space.names, ("ties", 0.5, 0.1, 0.2, 0.3, 0.9, 0.25, 4), strict=True))
    filled = space.fill(DOCUMENT, values)
    assert before == DOCUMENT
    assert filled["merge_method"] == "ties"
    assert filled["parameters"] == {"normalize": True, "lambda": 0.5}
    assert filled["models"][0]["parameters"] == {"weight": [0.1, 0.2, 0.3], "density": 0.9}
    assert filled["models"][1]["parameters"] == {"weight": 0.25, "n": 4}


def test_values_are_rounded_so_that_equal_merges_are_equal() -> None:
    space = Space.of(DOCUMENT)
    values = dict(zip(space.names, ("ties", 0.0123456, 1 / 3, 0, 1, 0.123456, 0.5, 4.0), strict=True))
    rounded = space.rounded(values)
    assert rounded["parameters.lambda"] == 0.01235
    assert rounded["models.0.parameters.weight[0]"] == 0.3333
    assert rounded["models.0.parameters.density"] == 0.12346
    assert rounded["models.1.parameters.n"] == 4
    assert type(rounded["models.1.parameters.n"]) is int


def test_places_of_one_name_share_a_value() -> None:
    tied = {"search": [0, 1], "name": "t"}
    space = Space.of({"a": dict(tied), "b": [dict(tied)]})
    assert space.names == ("t",)
    assert space.fill({"a": dict(tied), "b": [dict(tied)]}, {"t": 0.5}) == {"a": 0.5, "b": [0.5]}
    with pytest.raises(SpaceError, match="two ranges"):
        Space.of({"a": dict(tied), "b": {"search": [0, 2], "name": "t"}})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"search": [1, 0]}, "smaller than the second"),
        ({"search": [0, "1"]}, "two numbers"),
        ({"search": [0, 1, 2]}, "two numbers"),
        ({"search": [0, 1], "log": True}, "begin above 0"),
        ({"search": [0, 1], "steps": 3}, "steps is no setting"),
        ({"search": [0, 1], "step": 2}, "at most the length"),
        ({"search": [1, 2], "step": 0.5, "log": True}, "not both"),
        ({"search": [0, 1], "points": 1}, "from 2 to"),
        ({"search": [0, float("inf")]}, "smaller than the second"),
        ({"search": [0, 1], "choices": [1, 2]}, "either `search`"),
        ({"choices": [1]}, "2 to"),
        ({"choices": [1, 1]}, "named twice"),
        ({"choices": [1, [2]]}, "a number, a text"),
        ({"choices": [1, 2], "log": True}, "settings of a range"),
    ],
)
def test_what_cannot_be_searched_is_refused(entry: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError, match=words) as caught:
        Space.of({"models": [{"weight": entry}]})
    assert caught.value.location == ("models", 0, "weight")


def test_a_document_without_a_searched_value_is_refused() -> None:
    with pytest.raises(SpaceError, match="nothing is searched"):
        Space.of({"merge_method": "linear"})


@pytest.mark.parametrize(
    ("n", "budget", "levels"), [(2, 25, 5), (2, 24, 4), (3, 150, 5), (1, 10, 10), (6, 40, 2)]
)
def test_a_grid_has_as_many_levels_as_the_budget_allows(n: int, budget: int, levels: int) -> None:
    space = Space.of([{"search": [0, 1]} for _ in range(n)])
    points = grid(space, budget, seed=0)
    assert len({tuple(point.values()) for point in points}) == len(points) == min(budget, levels**n)
    assert {value for point in points for value in point.values()} == {
        round(k / (levels - 1), 4) for k in range(levels)
    }
    assert grid(space, budget, seed=0) == points


@pytest.mark.parametrize(("step", "last"), [(0.3, 0.9), (0.6, 0.6), (1 / 3, 0.9999999999999999), (0.25, 1.0)])
def test_steps_that_do_not_reach_the_end_stop_before_it(step: float, last: float) -> None:
    space = Space.of({"models": [{"weight": {"search": [0, 1], "step": step}}]})
    parameter = space.parameters[0]
    assert parameter.rounded(1.0) == last
    assert parameter.rounded(0.0) == 0.0
    assert distribution_of(parameter)._contains(last)
    assert {values["models.0.weight"] for values in grid(space, 2, 0)} == {0.0, last}
