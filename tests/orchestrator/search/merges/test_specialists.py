"""Trained specialists of the demo model, and searches over their merges.

pytest -m slow -s tests/orchestrator/search/merges/test_specialists.py      trains them first: some minutes

`python -m benchmarks.search_methods` runs the comparison of methods with 20 seeds; here are three.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from benchmarks.search_methods import TWO_SKILLS, MeasuredMerges, confirmed, run_trials
from evals.engine import EngineKind, EngineSpec, ScoreRequest
from evals.engines import installed_version, open_engine
from evals.probes import Scoring, Split, get_probe
from evals.scores import ChatTemplate
from orchestrator.store.trial_records import Arm
from recipes.demo import BASE, ensure_demo_checkpoint
from recipes.merge import MergedWeights
from tests.support.specialists import (
    PROBES,
    cache_folder,
    ensure_specialist,
    probe_questions,
    training_questions,
)


@pytest.fixture(scope="module")
def sources() -> list[Path]:
    """The base and the specialists."""
    base = ensure_demo_checkpoint(cache_folder() / "home", BASE)
    return [base, *(ensure_specialist(skill, cache_folder()) for skill in TWO_SKILLS.skills)]


@pytest.mark.parametrize("name", PROBES)
def test_no_training_question_is_one_of_the_probe(name: str) -> None:
    probed = probe_questions(name)
    assert len(probed) >= 132
    drawn = list(itertools.islice(training_questions(name), 2400))
    assert not {question.text for question in drawn} & probed
    assert drawn == list(itertools.islice(training_questions(name), 2400))


@pytest.mark.slow
def test_each_specialist_is_better_than_the_base_and_the_other_at_its_own_skill(
    sources: list[Path], tmp_path: Path
) -> None:
    measured = MeasuredMerges(tmp_path, Split.CONFIRMATION, sources)
    base, first, second = (
        measured.values(TWO_SKILLS.references[name]) for name in ("base", *TWO_SKILLS.skills)
    )
    print(f"\nbase {base}, {TWO_SKILLS.skills[0]} {first}, {TWO_SKILLS.skills[1]} {second}")
    assert first[0] > base[0] + 0.05
    assert second[1] > base[1] + 0.05
    assert first[0] > second[0] + 0.05
    assert second[1] > first[1] + 0.1


@pytest.mark.slow
def test_values_are_those_of_a_live_merge_in_an_engine(sources: list[Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    weights, file = (0.7, 1.1), TWO_SKILLS.search_file(0, 2, "gp")
    answers = MeasuredMerges(tmp_path, Split.SEARCH, sources).of(weights)
    recipe = file.recipe(dict(zip(file.space.names, weights, strict=True)))
    tokenizer = AutoTokenizer.from_pretrained(str(sources[0]))
    spec = EngineSpec(
        kind=EngineKind.TRANSFORMERS, version=installed_version(EngineKind.TRANSFORMERS), dtype="float32"
    )
    engine = open_engine(spec, sources[0])
    try:
        named = tuple(zip(("base", *TWO_SKILLS.skills), sources, strict=True))
        engine.load_weights(MergedWeights(recipe=recipe.canonical_text, digest="0" * 16, sources=named))
        for answer, skill in zip(answers, TWO_SKILLS.skills, strict=True):
            probe = get_probe(f"{PROBES[skill]}-{Split.SEARCH}")
            requests = [r for r in probe.requests(tokenizer, ChatTemplate.OFF) if isinstance(r, ScoreRequest)]
            live = probe.score(
                [result for _, result in sorted(engine.score(requests), key=lambda each: each[0])]
            )
            assert live.credits(Scoring.CORRECTED) == pytest.approx(
                answer.credits(Scoring.CORRECTED), abs=1e-4
            )
    finally:
        engine.close()


@pytest.mark.slow
def test_a_search_is_better_than_random_and_a_grid_in_most_seeds(sources: list[Path]) -> None:
    """Measured merges are kept beside the specialists, as the benchmark keeps them."""
    searched, asked = (MeasuredMerges(sources[1].parent, split, sources) for split in Split)
    better = dict.fromkeys((Arm.RANDOM, Arm.GRID), 0)
    for seed in range(3):
        file = TWO_SKILLS.search_file(seed, 25, "gp")
        result = confirmed(file, run_trials(file, searched).records, searched, asked)
        for arm in better:
            better[arm] += result.best[Arm.SEARCH] >= result.best[arm]
        if result.confirmed[Arm.SEARCH] < result.better_parent:
            assert result.report.conclusion.startswith("No merge here beats")
    assert min(better.values()) >= 2
