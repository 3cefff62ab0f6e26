"""Metadata of scores that are no leaderboard's: marked as such in every entry, and never spliced into a card."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCardData

from evals.scores import SuiteScore
from evals.suite import Suite
from orchestrator.cards.write import entry
from orchestrator.errors import CardError


def marked_index(suite: Suite, score: SuiteScore, name: str) -> list[dict[str, Any]]:
    """A `model-index` under the names that the suite itself gives its data sets, which no board has."""
    results = []
    for result in score.benchmarks:
        card = suite.benchmark(result.benchmark).card
        if card is None:
            continue
        mark = " (partial)" if result.partial else ""
        results.append(entry(card, card.dataset_name + mark, result.normalized))
    if not results:
        raise CardError(
            f"{suite.title} does not say how a card names its benchmarks; there is nothing to write."
        )
    index: list[dict[str, Any]] = ModelCardData(model_name=name, eval_results=results).to_dict()[
        "model-index"
    ]
    return index
