"""Cards of benchmarks beyond the two boards, with the figures that a reader counts: 30 that the reader was made with, 26 held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.claims.facts import Fact
from evals.claims.known import joined
from evals.claims.records import CheckOutcome, Unit
from orchestrator.cards import card_checks, card_claims, load_card, read_card
from tests.support.card_truth import compare, counted_scores, truths

FOLDERS = [Path(__file__).parent / name for name in ("any_benchmark", "held_out", "unseen")]
CARDS = [(folder, truth) for folder in FOLDERS for truth in truths(folder)]
each_card = pytest.mark.parametrize(("folder", "truth"), CARDS, ids=[t["card"] for _, t in CARDS])


def read(body: str, name: str = "Little-7B") -> dict[tuple[str | None, str], float]:
    card = read_card(f"---\nbase_model: lab/Base-7B\n---\n# {name}\n\n{body}", "card.md")
    return {(f.subject, f.name): f.points for f in card.figures if f.unit is not Unit.CHANGE}


@each_card
def test_every_figure_with_its_model_and_no_other(folder: Path, truth: dict[str, Any]) -> None:
    count = compare(folder, truth)
    assert (count.missing, count.invented) == ([], [])
    card = load_card(folder / truth["card"])
    assert sum(f.unit is Unit.CHANGE for f in card.figures) == truth.get("changes", 0)
    own = {joined(f.name): f.shots for f in card.figures if f.subject is None}
    for benchmark, shots in truth.get("shots", {}).items():
        assert own[joined(benchmark)] == shots


@each_card
def test_own_figures_are_claims_and_clean_cards_have_none(folder: Path, truth: dict[str, Any]) -> None:
    claims = card_claims(load_card(folder / truth["card"]))
    own = [value for (model, _, value), n in counted_scores(truth).items() if model is None for _ in range(n)]
    assert sorted(round(c.value, 6) for c in claims) == sorted(set(own) if truth.get("repeated") else own)
    if not own:
        assert card_checks(load_card(folder / truth["card"])) == ()


def test_the_metric_and_the_conditions_are_read() -> None:
    body = (
        "## Evaluation\n\n| Benchmark | Little-7B |\n|---|---|\n| DROP (3-shot F1) | 61.2 |\n| AIME 2024 (avg@16) | 20.6 |\n"
        "| GSM8K (8-shot, CoT) | 71.2 |\n| HumanEval (Pass@1, n=164) | 50.0 |\n"
    )
    card = read_card(f"# Little-7B\n\n{body}", "card.md")
    claims = {c.known_as: c for c in card_claims(card)}
    assert (claims["DROP"].metric, claims["DROP"].facts.get(Fact.SHOTS)) == ("F1", "3")
    assert (claims["AIME 2024"].metric, claims["AIME 2024"].runs) == ("avg@16", 16)
    assert claims["GSM8K"].facts.known == {Fact.SHOTS: "8", Fact.PROTOCOL: "chain of thought"}
    assert (claims["HumanEval"].metric, claims["HumanEval"].n) == ("Pass@1", 164)


def test_math_beside_humaneval_is_not_the_boards_math() -> None:
    body = (
        "| Benchmark | Score |\n|---|---|\n| MATH | 71.2 |\n| HumanEval | 70.1 |\n| LiveCodeBench | 30.2 |\n"
    )
    claims = card_claims(read_card(f"# Little-7B\n\n{body}", "card.md"))
    assert [(c.suite, c.benchmark) for c in claims] == [
        (None, "MATH"),
        (None, "HumanEval"),
        (None, "LiveCodeBench"),
    ]


@pytest.mark.parametrize(
    ("body", "scores"),
    [
        ("It scores 71.2% on GSM8K (8-shot).", {(None, "GSM8K"): 71.2}),
        ("Its MT-Bench score is 8.1.", {(None, "MT-Bench"): 8.1}),
        ("lab/Base-7B reaches 65.0% on GSM8K.", {("lab/Base-7B", "GSM8K"): 65.0}),
        (
            "It outperforms Rival-13B (68.0) on MMLU with 70.1.",
            {("Rival-13B", "MMLU"): 68.0, (None, "MMLU"): 70.1},
        ),
        ("GSM8K went from 60.5 to 71.2.", {("lab/Base-7B", "GSM8K"): 60.5, (None, "GSM8K"): 71.2}),
        ("It solves 101/164 problems of HumanEval.", {}),
        (
            "| Eval | Before | After |\n|---|---|---|\n| MBPP | 40.1 | 44.0 |\n",
            {("Before", "MBPP"): 40.1, (None, "MBPP"): 44.0},
        ),
        (
            "### MT-Bench\n\n- Little-7B: 8.12\n- Rival-13B: 7.61\n",
            {(None, "MT-Bench"): 8.12, ("Rival-13B", "MT-Bench"): 7.61},
        ),
        ("We trained on GSM8K with 7473 questions for 3.5 epochs.", {}),
        (
            "It scores 71.2 on GPQA-Diamond and 50.1% on Zebra-Bench.",
            {(None, "GPQA-Diamond"): 71.2, (None, "Zebra-Bench"): 50.1},
        ),
        ("Our model achieves 63.4% on FableQuest.", {(None, "FableQuest"): 63.4}),
        (
            "It scored 45.2% on SWE-Lancer, while Rival-13B scored 41.0%.",
            {(None, "SWE-Lancer"): 45.2, ("Rival-13B", "SWE-Lancer"): 41.0},
        ),
        (
            "MMLU 70.1, Zebra-Bench 44.2 and GSM8K 80.0.",
            {(None, "MMLU"): 70.1, (None, "Zebra-Bench"): 44.2, (None, "GSM8K"): 80.0},
        ),
        ("It achieves 95.5% on Tuesday and reaches 85.0% utilization on A100.", {}),
        ("It reaches 50.5 tokens per second on an RTX 4090 and a loss of 2.31 on Pile.", {}),
        ("It achieved 99.9% uptime on AWS and 12.5% compression on Wikipedia.", {}),
        ("We drop 12.5% of the tokens. Race conditions: 3.2%.", {}),
        ("- learning rate: 0.0002\n- GPUs: 8.5\n", {}),
    ],
)
def test_sentences_and_lists(body: str, scores: dict[tuple[str | None, str], float]) -> None:
    found = read(body)
    if body.startswith("It solves"):
        assert set(found) <= {(None, "HumanEval")}
    else:
        assert found == scores


def test_a_change_in_a_sentence_is_no_score() -> None:
    card = read_card("# Little-7B\n\nIt improves GSM8K by 3.1 points and IFEval drops by 2.0%.", "card.md")
    assert [(f.known_as, f.value, f.unit) for f in card.figures] == [
        ("GSM8K", 3.1, Unit.CHANGE),
        ("IFEval", -2.0, Unit.CHANGE),
    ]


def test_relative_changes_that_are_not_marked_are_named() -> None:
    body = (
        "| Benchmark | lab/Base-7B | Little-7B | Δ |\n|---|---|---|---|\n| GSM8K | 50.0 | 55.0 | +10.0 |\n"
        "| MBPP | 40.0 | 42.0 | +5.0 |\n"
    )
    card = read_card(f"---\nbase_model: lab/Base-7B\n---\n# Little-7B\n\n{body}", "card.md")
    failed = [c.sentence for c in card_checks(card) if c.outcome is CheckOutcome.FAILS]
    assert len(failed) == 1
    assert "follow from lab/Base-7B as relative changes" in failed[0]
    assert "the card does not mark it as relative" in failed[0]
