"""Small cards of the kinds that people publish, with the truth beside them: figures, models, scales, conditions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.claims.records import Claim, Figure, Unit
from orchestrator.cards import Card, card_claims, load_card

FOLDER = Path(__file__).parent
TRUTH: list[dict[str, Any]] = yaml.safe_load((FOLDER / "truth.yaml").read_text(encoding="utf-8"))
Score = tuple[str | None, str, float]  # model (None is the card's own), benchmark, points

each_card = pytest.mark.parametrize("truth", TRUTH, ids=lambda truth: truth["card"])


def true_scores(truth: dict[str, Any]) -> Counter[Score]:
    """Every score that a reader finds in the card, once per place."""
    models: dict[str | None, Any] = {None: truth["own"], **truth["others"]}
    return Counter((m, b, float(v)) for m, rows in models.items() for row in rows for b, v in row.items())


def read_scores(card: Card) -> Counter[Score]:
    """Every score of a known benchmark that was read, once per place."""
    return Counter(
        (f.subject, f.benchmark or "average", round(f.points, 6))
        for f in card.figures
        if f.unit is not Unit.CHANGE and (f.benchmark is not None or f.is_average)
    )


def exactness(truth: dict[str, Any]) -> tuple[int, int, int]:
    """Scores of a card that are right with their model, that are missing or of another model, and that are invented."""
    expected, read = true_scores(truth), read_scores(load_card(FOLDER / truth["card"]))
    return (expected & read).total(), (expected - read).total(), (read - expected).total()


def claim_of(claims: tuple[Claim, ...], benchmark: str, value: float) -> Claim:
    name = None if benchmark == "average" else benchmark
    (claim,) = [c for c in claims if c.benchmark == name and abs(c.value - value) < 1e-6]
    return claim


@each_card
def test_every_score_with_its_model_and_no_other(truth: dict[str, Any]) -> None:
    card = load_card(FOLDER / truth["card"])
    assert read_scores(card) == true_scores(truth)
    changes: list[Figure] = [f for f in card.figures if f.unit is Unit.CHANGE]
    assert len(changes) == truth.get("changes", 0)


@each_card
def test_claims_are_the_own_scores_with_their_scale_and_conditions(truth: dict[str, Any]) -> None:
    card = load_card(FOLDER / truth["card"])
    claims = tuple(c for c in card_claims(card) if c.suite is not None)
    own = [(i, b, v) for i, row in enumerate(truth["own"]) for b, v in row.items()]
    stated = [entry for entry in own if entry[1] not in truth.get("no_claims", ())]
    assert len(claims) == len(stated)
    for row, benchmark, value in stated:
        claim = claim_of(claims, benchmark, value)
        assert claim.suite == truth["suite"]
        assert bool(claim.unclear) == (benchmark in truth.get("unclear", ())), claim.unclear
        assert claim.scale == (truth["scales"][row] if "scales" in truth else "normalized")
        facts = truth["facts"][row] if "facts" in truth else {}
        assert {f: claim.facts.get(f) for f in facts} == facts


def test_nothing_is_lost_or_invented() -> None:
    right, missing, invented = (sum(counts) for counts in zip(*map(exactness, TRUTH), strict=True))
    assert (missing, invented) == (0, 0)
    assert right == sum(true_scores(truth).total() for truth in TRUTH)
