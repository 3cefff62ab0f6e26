"""What the tokenizer's default means, where one side of a comparison says whether BOS was added and the other does not.

lm-eval's results say `add_bos_token=False`, or nothing, which is the tokenizer's default; so do our own suites. For a
tokenizer that adds no BOS the two are the same prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from evals.claims.facts import TOKENIZERS_DEFAULT, Fact, on_off
from evals.errors import EvaluationError
from orchestrator.compare import Side
from recipes.sources import tokenizer_folder


@dataclass(frozen=True)
class Group:
    """One side of a comparison: its benchmarks, and what its checkpoint is called, surest first."""

    sides: tuple[Side, ...]
    references: tuple[str, ...]


def with_known_defaults(groups: Sequence[Group], home: Path) -> list[list[Side]]:
    """The sides of each group; a default is resolved from its tokenizer if another group says on or off.

    Left as it is where the tokenizer is not on this machine; nothing is downloaded.
    """
    values = {side.measurement.facts.get(Fact.BOS) for group in groups for side in group.sides} - {None}
    if TOKENIZERS_DEFAULT not in values or len(values) == 1:
        return [list(group.sides) for group in groups]
    everyone = [reference for group in groups for reference in group.references]
    return [[_resolved(side, group, everyone, home) for side in group.sides] for group in groups]


def _resolved(side: Side, group: Group, everyone: Iterable[str], home: Path) -> Side:
    measurement = side.measurement
    if measurement.facts.get(Fact.BOS) != TOKENIZERS_DEFAULT:
        return side
    # A file of lm-eval names `org/model` alone, whose commit another side may know.
    same = [other for r in group.references for other in everyone if other.startswith(f"{r}@")]
    for reference in (*group.references, *same):
        folder = tokenizer_folder(reference, home)
        value = None if folder is None else _default_of(folder)
        if value is not None:
            facts = measurement.facts.plus({Fact.BOS: on_off(value)})
            return replace(side, measurement=measurement.model_copy(update={"facts": facts}))
    return side


@lru_cache(maxsize=64)
def _default_of(folder: Path) -> bool | None:
    from evals.harness.tokenization import adds_bos

    try:
        return adds_bos(folder)
    except EvaluationError:
        return None
