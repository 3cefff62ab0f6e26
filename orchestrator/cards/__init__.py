"""Read model cards into claims; write scores as card metadata and tables."""

from orchestrator.cards.read import Card, StatedSize, card_checks, card_claims, load_card, read_card
from orchestrator.cards.write import (
    CardSource,
    board_source,
    eval_results_yaml,
    improvement_table,
    markdown_table,
    model_index,
    model_index_yaml,
    update_readme,
    update_readme_file,
    writable,
)

__all__ = [
    "Card",
    "CardSource",
    "StatedSize",
    "board_source",
    "card_checks",
    "card_claims",
    "eval_results_yaml",
    "improvement_table",
    "load_card",
    "markdown_table",
    "model_index",
    "model_index_yaml",
    "read_card",
    "update_readme",
    "update_readme_file",
    "writable",
]
