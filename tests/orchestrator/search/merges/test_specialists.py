"""Searches over merges of trained specialists: the search against a grid and random search at equal cost.

pytest -m slow -s tests/orchestrator/search/merges/test_specialists.py

Merged weights are made and asked in this process (base + weight x difference, as task arithmetic does), which takes a fraction of a second
where a build and an engine take several.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.search.merges.course import best_first
from orchestrator.search.merges.search_file import parse_search
from orchestrator.store.trial_records import Arm, TrialRecord
from tests.orchestrator.search.merges.test_course import searched
from tests.support.specialists import LAYERS, Asked, Specialists, specialists

EVALUATIONS = 25
SEEDS = int(os.environ.get("MERGEBOARD_SEARCH_SEEDS", "20"))
TEXT = """
name: specialists
base: base
recipe:
  merge_method: task_arithmetic
  base_model: org/base
  dtype: float32
  models:
    - {model: org/arithmetic, parameters: {weight: {search: [0, 1.5], points: 2}}}
    - {model: org/reasoning, parameters: {weight: {search: [0, 1.5], points: 2}}}
objectives: [arithmetic-easy-scored, reasoning-easy-scored]
budget: {evaluations: EVALUATIONS}
sampler: gp
seed: SEED
compare_with: [random, grid]
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Specialists:
    cache = os.environ.get("MERGEBOARD_TEST_CACHE")
    return specialists(Path(cache) if cache else tmp_path_factory.mktemp("specialists"))


@pytest.fixture(scope="module")
def measure(parents: Specialists) -> Callable[[TrialRecord], tuple[float, ...]]:
    """Values of the merge of a trial; each is made once."""
    import torch

    asked = Asked(parents.base)
    base = asked.weights()
    deltas = [
        {name: tensor - base[name] for name, tensor in Asked(folder).weights().items()}
        for folder in (parents.arithmetic, parents.reasoning)
    ]
    known: dict[tuple[float, ...], tuple[float, ...]] = {}

    def value(trial: TrialRecord) -> tuple[float, ...]:
        weights = tuple(float(v) for v in trial.parameters.values())
        if weights not in known:
            merged = {
                name: tensor
                + sum(_at(name, weights[2 * n : 2 * n + 2]) * delta[name] for n, delta in enumerate(deltas))
                for name, tensor in base.items()
            }
            with torch.no_grad():
                known[weights] = asked.values(merged)
        return known[weights]

    return value


def _at(name: str, ends: tuple[float, ...]) -> float:
    """A gradient's value for a tensor: of its layer, or the first point for tensors of no layer, as mergekit has it."""
    parts = name.split(".")
    layer = int(parts[parts.index("layers") + 1]) if "layers" in parts else 0
    return ends[0] + (ends[1] - ends[0]) * layer / (LAYERS - 1)


def test_specialists_know_more_of_their_own(parents: Specialists) -> None:
    values = [Asked(folder) for folder in (parents.base, parents.arithmetic, parents.reasoning)]
    base, arithmetic, reasoning = (asked.values(asked.weights()) for asked in values)
    print(f"\nbase {base}, arithmetic {arithmetic}, reasoning {reasoning}")
    assert arithmetic[0] > base[0]
    assert reasoning[1] > base[1]


def test_the_search_is_better_than_grid_and_random_at_equal_cost(
    parents: Specialists, measure: Callable[[TrialRecord], tuple[float, ...]]
) -> None:
    wins = {Arm.RANDOM: 0, Arm.GRID: 0}
    for seed in range(SEEDS):
        text = TEXT.replace("EVALUATIONS", str(EVALUATIONS)).replace("SEED", str(seed))
        file = parse_search(text.encode(), origin="s.yaml", folder=Path("."))
        trials = searched(file, measure)
        best = {
            arm: file.search.together(
                best_first(file.search, [t for t in trials if t.arm is arm])[0].objectives or ()
            )
            for arm in Arm
        }
        for arm in wins:
            wins[arm] += best[Arm.SEARCH] > best[arm]
        print(f"\n{seed} " + ", ".join(f"{arm} {value:.4f}" for arm, value in best.items()), end="")
    print(f"\nbetter than random in {wins[Arm.RANDOM]}, than the grid in {wins[Arm.GRID]} of {SEEDS} seeds")
    assert min(wins.values()) >= 0.75 * SEEDS
