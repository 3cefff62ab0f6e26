"""The course of a search with a simulated evaluation: planted optima, kills, and results that come in any order.

pytest -m slow -s tests/orchestrator/search/merges/test_course.py      all samplers, 20 seeds each
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from orchestrator.search.merges.course import Course, best_first, best_so_far, pareto_front
from orchestrator.search.merges.search_file import SearchFile, parse_search
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState

TEXT = """
name: planted
base: org/base
recipe: {merge_method: linear, dtype: float32, models: [MODELS]}
objectives: OBJECTIVES
budget: BUDGET
sampler: SAMPLER
seed: SEED
MORE
"""
Measure = Callable[[TrialRecord], tuple[float, ...] | None]


def file_of(
    sampler: str, seed: int = 0, *, weights: int = 2, budget: str = "{evaluations: 16}", more: str = "",
    objectives: str = "[arithmetic-easy-scored]",
) -> SearchFile:  # fmt: skip
    models = ", ".join(
        f"{{model: org/m{n}, parameters: {{weight: {{search: [0, 1]}}}}}}" for n in range(weights)
    )
    text = TEXT.replace("MODELS", models).replace("SAMPLER", sampler).replace("SEED", str(seed))
    text = text.replace("BUDGET", budget).replace("MORE", more).replace("OBJECTIVES", objectives)
    return parse_search(text.encode(), origin="s.yaml", folder=Path("."))


def searched(
    file: SearchFile, measure: Measure, *, parallel: int = 1, order: int = 0, kills: Collection[int] = ()
) -> tuple[TrialRecord, ...]:
    """All trials; running ones end in a random order, and at each number of `kills` the course is made anew from its trials."""
    rng, ended = random.Random(order), 0
    course = Course(file.search, file.space, parallel=parallel)
    while not course.ended:
        while course.propose() is not None:
            pass
        trial = rng.choice(course.running)
        values = measure(trial)
        state = TrialState.FAILED if values is None else TrialState.COMPLETE
        course.end(trial.model_copy(update={"state": state, "objectives": values, "cost_s": 2.0}))
        ended += 1
        if ended in kills:
            course = Course(file.search, file.space, parallel=parallel, trials=course.trials)
    return course.trials


def bowl(optimum: list[float], noise: float = 0.0) -> Measure:
    """A score with its maximum at known weights, as a probe's value is around its best."""

    def measure(trial: TrialRecord) -> tuple[float, ...]:
        weights = [float(value) for value in trial.parameters.values()]
        distance = sum((a - b) ** 2 for a, b in zip(weights, optimum, strict=True))
        shake = noise * random.Random(str(weights)).gauss(0, 1)
        return (0.2 + 0.6 * math.exp(-2 * distance) + shake,)

    return measure


def planted(seed: int, weights: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.uniform(0.1, 0.9) for _ in range(weights)]


def error_of(sampler: str, seed: int, weights: int = 3, evaluations: int = 150) -> float:
    """Largest distance of a weight of the best trial from the planted one."""
    optimum = planted(seed, weights)
    file = file_of(sampler, seed, weights=weights, budget=f"{{evaluations: {evaluations}}}")
    best = best_first(file.search, searched(file, bowl(optimum)))[0]
    return max(abs(float(a) - b) for a, b in zip(best.parameters.values(), optimum, strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_evolution_finds_a_planted_optimum(seed: int) -> None:
    assert error_of("cma-es", seed) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["cma-es", "tpe", "gp"])
def test_a_planted_optimum_is_found_in_20_of_20_seeds(sampler: str) -> None:
    """With a Gaussian process some four minutes."""
    errors = [error_of(sampler, seed) for seed in range(20)]
    print(f"\n{sampler}: largest error {max(errors):.4f}, {sum(e < 0.05 for e in errors)} of 20 below 0.05")
    assert max(errors) < 0.05


@pytest.mark.parametrize("sampler", ["tpe", "cma-es", "random", pytest.param("gp", marks=pytest.mark.slow)])
def test_killed_and_in_another_order_it_tries_the_same_merges(sampler: str) -> None:
    file = file_of(sampler, more="compare_with: [random, grid]")
    measure = bowl(planted(0, 2))
    undisturbed = searched(file, measure, parallel=3)
    disturbed = searched(file, measure, parallel=3, order=5, kills={1, 2, 3, 8, 13, 15, 16, 20, 31, 40})
    assert [(t.arm, t.parameters, t.objectives) for t in disturbed] == [
        (t.arm, t.parameters, t.objectives) for t in undisturbed
    ]
    assert {arm: sum(t.arm is arm for t in undisturbed) for arm in Arm} == {
        Arm.SEARCH: 16, Arm.RANDOM: 16, Arm.GRID: 16,
    }  # fmt: skip


@pytest.mark.parametrize("sampler", ["random", "tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_no_merge_is_proposed_twice_while_others_are_left(sampler: str) -> None:
    """Twelve merges in all, and sixteen evaluations: a Gaussian process alone proposes its best one again and again."""
    text = TEXT.replace("MODELS", "MODEL_0, MODEL_1")
    for n, step in enumerate((0.5, 1 / 3)):
        weight = f"{{search: [0, 1], step: {step}}}"
        text = text.replace(f"MODEL_{n}", f"{{model: org/m{n}, parameters: {{weight: {weight}}}}}")
    values = {
        "OBJECTIVES": "[arithmetic-easy-scored]",
        "BUDGET": "{evaluations: 16}",
        "SAMPLER": sampler,
        "SEED": "0",
        "MORE": "",
    }
    for name, value in values.items():
        text = text.replace(name, value)
    file = parse_search(text.encode(), origin="s.yaml", folder=Path())
    trials = searched(file, bowl([0.5, 0.4]))
    tried = [tuple(trial.parameters.values()) for trial in trials]
    assert len(set(tried[:12])) == 12
    assert len(tried) == 16


def test_failed_trials_are_learnt_from_as_failed() -> None:
    file = file_of("tpe", budget="{evaluations: 30}")
    bottom = bowl([0.7, 0.7])
    trials = searched(
        file, lambda t: None if float(t.parameters["models.0.parameters.weight"]) < 0.3 else bottom(t)
    )
    assert sum(t.state is TrialState.FAILED for t in trials[:10]) > 0
    assert all(t.objectives is not None for t in best_first(file.search, trials))


def test_a_search_in_which_everything_fails_is_hopeless() -> None:
    file = file_of("random")
    course = Course(file.search, file.space)
    for _ in range(5):
        assert course.hopeless is None
        trial = course.propose()
        assert trial is not None
        course.end(
            trial.model_copy(update={"state": TrialState.FAILED, "message": "no memory", "cost_s": 0.0})
        )
    assert course.hopeless is not None
    assert course.hopeless.message == "no memory"


def test_a_budget_in_seconds_ends_the_search_and_gives_rivals_as_many_evaluations() -> None:
    file = file_of("random", budget="{seconds: 9}", more="compare_with: [random]")
    trials = searched(file, bowl([0.5, 0.5]))
    assert [t.arm for t in trials] == [Arm.SEARCH] * 5 + [Arm.RANDOM] * 5
    hours = file_of("random", budget="{gpu_hours: 0.01}")
    course = Course(hours.search, hours.space, gpus=4)
    count = 0
    while (trial := course.propose()) is not None:
        course.end(
            trial.model_copy(update={"state": TrialState.COMPLETE, "objectives": (0.5,), "cost_s": 2.0})
        )
        count += 1
    assert count == 5, "36 GPU-seconds of 8 each"


def test_a_pareto_search_ranks_its_front_first() -> None:
    file = file_of(
        "tpe",
        budget="{evaluations: 25}",
        more="pareto: true",
        objectives="[arithmetic-easy-scored, reasoning-easy-scored]",
    )
    first, second = bowl([0.2, 0.2]), bowl([0.8, 0.2])
    trials = searched(file, lambda t: ((first(t) or ())[0], (second(t) or ())[0]))
    front = set(pareto_front(trials))
    assert len(front) > 2
    ranked = best_first(file.search, trials)
    assert {t.number for t in ranked[: len(front)]} == front


def test_the_best_so_far_never_falls() -> None:
    file = file_of("random")
    steps = best_so_far(file.search, searched(file, bowl([0.5, 0.5])))
    assert [count for count, _, _ in steps] == list(range(1, 17))
    assert steps[-1][1] == 32.0
    assert all(a[2] <= b[2] for a, b in itertools.pairwise(steps))
