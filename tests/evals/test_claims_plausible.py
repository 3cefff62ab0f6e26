"""What arithmetic says of a claim: scores that no run gives, differences of a question, protocols, luck."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from evals.claims.known import match_known
from evals.claims.plausible import check_luck, check_protocols, impossible
from evals.claims.records import CheckKind, CheckOutcome, Claim, Scale
from orchestrator.cards import card_checks, read_card


def claim(known_as: str, value: float, decimals: int = 1, **more: object) -> Claim:
    fields: dict[str, object] = {
        "subject": None,
        "suite": None,
        "benchmark": known_as,
        "title": known_as,
        "known_as": known_as,
        "value": value,
        "rounding_points": 0.5 * 10.0**-decimals,
        "scale": Scale.RAW,
        "source": "card.md, table, line 3",
    }
    return Claim.model_validate(fields | more)


def test_ninety_percent_of_198_questions_is_impossible() -> None:
    reason = impossible(claim("GPQA-Diamond", 90.0))
    assert reason == "no single run on 198 questions gives 90.0 %: 178 right are 89.90 %, 179 are 90.40 %"


@pytest.mark.parametrize("right", range(199))
def test_every_number_of_right_answers_is_possible_rounded_or_cut_off(right: int) -> None:
    share = 100 * right / 198
    for decimals in (0, 1, 2, 3):
        assert impossible(claim("GPQA-Diamond", round(share, decimals), decimals)) is None
        assert (
            impossible(
                claim("GPQA-Diamond", math.floor(share * 10**decimals + 1e-9) / 10**decimals, decimals)
            )
            is None
        )


def test_brute_force_agrees() -> None:
    possible = {round(100 * right / 164, 1) for right in range(165)}
    cut = {math.floor(1000 * right / 164 + 1e-9) / 10 for right in range(165)}
    for tenth in range(1001):
        value = tenth / 10
        assert (impossible(claim("HumanEval", value)) is None) == (value in possible | cut), value


@pytest.mark.parametrize(
    ("made", "is_impossible"),
    [
        (claim("AIME 2025", 72.9), False),  # usually an average of many runs
        (claim("AIME 2025", 72.9, runs=1), True),
        (claim("AIME 2025", 72.9, runs=16), False),
        (claim("GPQA-Diamond", 90.0, runs=10), False),
        (claim("GPQA-Diamond", 90.0, runs=0), False),  # an unknown number of runs
        (claim("GPQA-Diamond", 90.0, n=200), False),
        (claim("GPQA-Diamond", 90.0, metric="F1"), False),
        (claim("MMLU", 71.23, 2), False),  # a mean of subjects
        (claim("MT-Bench", 8.12, 2, in_percent=False), False),
        (claim("GPQA-Diamond", 90.0, unclear=("two readings",)), False),
        (claim("MBPP", 64.0), False),  # 500 questions
    ],
)
def test_what_is_known_of_the_run_counts(made: Claim, is_impossible: bool) -> None:
    assert (impossible(made) is not None) == is_impossible


def table(*rows: str) -> str:
    return "\n".join(["| Benchmark | lab/Base-7B | Little-7B |", "|---|---|---|", *rows]) + "\n"


def checks(body: str) -> list[tuple[CheckKind, CheckOutcome, str]]:
    card = read_card(f"---\nbase_model: lab/Base-7B\n---\n# Little-7B\n\n{body}", "card.md")
    return [(c.kind, c.outcome, c.sentence) for c in card_checks(card)]


def test_a_difference_of_two_questions_is_named() -> None:
    found = checks(table("| AIME 2025 | 40.0 | 46.7 |", "| MMLU-Pro | 50.0 | 52.0 |"))
    assert [(k, s) for k, _, s in found if k is CheckKind.SMALL_DIFFERENCE] == [
        (
            CheckKind.SMALL_DIFFERENCE,
            "Differences to lab/Base-7B of at most 2 questions: AIME 2025 (2 of 30).",
        )
    ]


def test_a_base_with_another_protocol_fails() -> None:
    body = "| Model | GSM8K |\n|---|---|\n| lab/Base-7B (5-shot) | 60.1 |\n| Little-7B (8-shot) | 66.0 |\n"
    failed = [(k, s) for k, o, s in checks(body) if o is CheckOutcome.FAILS]
    assert failed == [
        (
            CheckKind.BASE_PROTOCOL,
            "GSM8K is compared across protocols: 8 few-shot examples for the card's model, 5 for lab/Base-7B (5-shot).",
        )
    ]


def test_a_rival_with_another_protocol_fails() -> None:
    body = "| Model | GSM8K | MMLU |\n|---|---|---|\n| Rival-13B (CoT) | 60.1 | 50.0 |\n| Little-7B (no CoT) | 66.0 | 51.0 |\n"
    assert [k for k, o, _ in checks(body) if o is CheckOutcome.FAILS] == [CheckKind.MIXED_PROTOCOLS]


def test_the_best_of_many_by_luck() -> None:
    body = "This is the best of 64 configurations.\n\n" + table("| GPQA-Diamond | 40.4 | 44.4 |")
    (sentence,) = [s for k, _, s in checks(body) if k is CheckKind.LUCK]
    assert "the gain of 4.00 points" in sentence
    assert "the best of 64 configurations" in sentence
    rng = random.Random(1)
    best = [max(sum(rng.random() < 0.404 for _ in range(198)) for _ in range(64)) for _ in range(60)]
    expected = 100 * fmean(best) / 198 - 40.4
    assert abs(float(sentence.partition("about ")[2].partition(" ")[0]) - expected) < 0.8
    assert not check_luck((), (), None)
    assert not check_protocols((), ())


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("AIME'24 (avg@32)", "AIME 2024"),
        ("LiveCodeBench v5 (2024.10-2025.02)", "LiveCodeBench"),
        ("IF-Eval (Prompt Strict)", "IFEval"),
        ("HumanEval Plus", "HumanEval+"),
        ("τ²-bench Retail", "TAU2-Bench Retail"),
        ("MMLU-DE", None),
        ("Sequence length", None),
    ],
)
def test_labels_name_known_benchmarks(label: str, name: str | None) -> None:
    known = match_known(label)
    assert (known.name if known is not None else None) == name
