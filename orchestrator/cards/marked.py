"""Metadata of scores that are no leaderboard's: marked as such in every entry, and never spliced into a card."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from evals.scores import SuiteScore
from evals.suite import Suite


def marked_index(suite: Suite, score: SuiteScore, name: str) -> list[dict[str, Any]]:
    """A `model-index` whose data sets are named after this project's suite, so that nobody takes it for a board's."""
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=f"mergeboard/{suite.name}",
            dataset_name=f"{result.title} of {suite.title}, no leaderboard's"
            + (" (partial)" if result.partial else ""),
            metric_type=result.metric,
            metric_value=round(result.normalized, 2),
            metric_name="normalized score",
        )
        for result in score.benchmarks
    ]
    index: list[dict[str, Any]] = ModelCardData(model_name=name, eval_results=results).to_dict()[
        "model-index"
    ]
    return index
