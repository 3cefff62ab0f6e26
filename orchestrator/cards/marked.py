"""Metadata of smoke test scores; partial ones are marked, and none is written into a card."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCardData

from evals.scores import SuiteScore
from evals.suite import Suite
from orchestrator.cards.write import entry, shown_value
from orchestrator.errors import CardError


def marked_index(suite: Suite, score: SuiteScore, name: str) -> list[dict[str, Any]]:
    """A `model-index` with the suite's own data set names, which no leaderboard uses."""
    results = []
    for result in score.benchmarks:
        card = suite.benchmark(result.benchmark).card
        if card is None:
            continue
        mark = " (partial)" if result.partial else ""
        results.append(
            entry(card, card.dataset_name + mark, shown_value(suite.benchmark(result.benchmark), result))
        )
    if not results:
        raise CardError(
            f"{suite.title} does not say how a card names its benchmarks; there is nothing to write."
        )
    index: list[dict[str, Any]] = ModelCardData(model_name=name, eval_results=results).to_dict()[
        "model-index"
    ]
    return index
