"""Evaluations in slices: the whole is the ordinary evaluation, an early stop asks no more, and the journal completes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evals.early import EarlyEvaluation
from evals.errors import EvaluationError
from evals.harness import Until, evaluate, evaluate_until_decided
from evals.samples import read_samples
from evals.scores import ChatTemplate, Evaluation, Sample
from evals.stats.sequence import LookPlan, LookSequence, first_full
from evals.stats.stopping import Aim, Decision, Rule
from evals.suite import load_suite
from tests.support.rule_engine import RuleEngine

SMOKE = load_suite("smoke")
PLAIN = SMOKE.eval_settings(ChatTemplate.OFF)
PLAN = LookPlan(rule=Rule(), first_share=0.1, slice_share=0.1)


@pytest.fixture
def engine(tiny_llama: Path) -> RuleEngine:
    return RuleEngine(tiny_llama)


def whole(engine: RuleEngine, name: str, folder: Path) -> tuple[Evaluation, tuple[Sample, ...]]:
    samples = folder / "whole.parquet"
    evaluation = evaluate(
        engine,
        SMOKE,
        SMOKE.benchmark(name),
        PLAIN,
        mirror=None,
        journal_dir=folder / "journal-of-whole",
        samples_path=samples,
    )
    return evaluation, read_samples(samples)


def sliced(
    engine: RuleEngine, name: str, folder: Path, base: Sequence[Sample], plan: LookPlan = PLAN
) -> tuple[Evaluation | EarlyEvaluation, LookSequence]:
    return evaluate_until_decided(
        engine,
        SMOKE,
        SMOKE.benchmark(name),
        PLAIN,
        Until(plan, base),
        mirror=None,
        journal_dir=folder / "journal",
        samples_path=folder / "sliced.parquet",
    )


def always_right(samples: Sequence[Sample]) -> list[Sample]:
    return [s.model_copy(update={"metrics": dict.fromkeys(s.metrics, 1.0), "correct": 1.0}) for s in samples]


@pytest.mark.parametrize("name", ["bbh", "ifeval"])
def test_what_is_not_decided_is_the_whole_evaluation(engine: RuleEngine, name: str, tmp_path: Path) -> None:
    ordinary, samples = whole(engine, name, tmp_path)
    evaluation, sequence = sliced(engine, name, tmp_path, samples)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.result == ordinary.result
    assert evaluation.scores == ordinary.scores
    assert read_samples(tmp_path / "sliced.parquet") == samples
    assert evaluation.n_requests == ordinary.n_requests
    assert (sequence.decision, sequence.early, sequence.n) == (Decision.OPEN, False, len(samples))
    assert [look.n for look in sequence.looks] == list(PLAN.looks(len(samples), 6 if name == "bbh" else 3))
    assert {look.delta_points for look in sequence.looks} == {0.0}


@pytest.mark.parametrize("name", ["bbh", "ifeval"])
def test_a_decided_comparison_stops_and_its_journal_completes_it(
    engine: RuleEngine, name: str, tmp_path: Path
) -> None:
    ordinary, samples = whole(engine, name, tmp_path)
    base = always_right(samples)
    before = engine.asked
    early, sequence = sliced(engine, name, tmp_path, base)
    assert isinstance(early, EarlyEvaluation)
    assert (sequence.decision, sequence.early) == (Decision.WORSE, True)
    assert sequence.n < len(samples) / 2
    assert 0 < early.n_requests < ordinary.n_requests
    assert not (tmp_path / "sliced.parquet").exists()
    assert sequence.text.startswith("decided: worse by ")
    assert sequence.text.endswith(f"after {sequence.n} of {len(samples)}")
    # The same again replays the journal, and decides the same after the same documents.
    again, repeated = sliced(engine, name, tmp_path, base)
    assert repeated == sequence
    assert again.n_replayed == again.n_requests
    # The whole evaluation asks only what is missing.
    completed = evaluate(
        engine,
        SMOKE,
        SMOKE.benchmark(name),
        PLAIN,
        mirror=None,
        journal_dir=tmp_path / "journal",
        samples_path=tmp_path / "completed.parquet",
    )
    assert engine.asked == 2 * before
    assert completed.n_replayed >= early.n_requests
    assert completed.result == ordinary.result
    assert read_samples(tmp_path / "completed.parquet") == samples


def test_the_base_must_have_the_same_documents(engine: RuleEngine, tmp_path: Path) -> None:
    _, samples = whole(engine, "bbh", tmp_path)
    with pytest.raises(EvaluationError, match="evaluate the base again with the same data"):
        sliced(engine, "bbh", tmp_path, samples[:5])


def test_equivalence_is_decided_before_the_end_where_the_margin_is_wide(
    engine: RuleEngine, tmp_path: Path
) -> None:
    _, samples = whole(engine, "bbh", tmp_path)
    plan = LookPlan(rule=Rule(aim=Aim.EQUIVALENCE, margin_points=60), first_share=0.2, slice_share=0.2)
    _, sequence = sliced(engine, "bbh", tmp_path, samples, plan)
    assert sequence.decision is Decision.EQUIVALENT
    assert sequence.early
    assert "equivalent within 60 points" in sequence.text


def test_looks_are_at_fixed_numbers_of_documents() -> None:
    plan = LookPlan(rule=Rule(), first_share=0.2, slice_share=0.3)
    assert plan.looks(100) == (20, 50, 80, 100)
    assert plan.looks(1) == (1,)
    assert LookPlan(rule=Rule(), first_share=1.0).looks(48) == (48,)
    assert plan.looks(100, 45) == (50, 80, 100)
    assert plan.looks(100, 100) == (100,)


def test_no_look_before_every_subset_has_three_documents() -> None:
    assert first_full(["a", "b", "a", "b", "a", "a", "b"]) == 7
    assert first_full(["a", "a", "a", "a"]) == 3
    assert first_full(["a", "b", "a", "a", "a"]) == 4  # all of b
    assert first_full([]) == 1
