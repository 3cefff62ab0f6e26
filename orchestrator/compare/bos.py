"""Resolve the tokenizer's BOS default if only one side of a comparison states whether BOS was added.

lm-eval's results state `add_bos_token=False`, or nothing, which is the tokenizer's default; so do our own
suites. For a tokenizer that adds no BOS, both give the same prompts.
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
    """One side of a comparison: its benchmarks and the references of its checkpoint, most reliable first."""

    sides: tuple[Side, ...]
    references: tuple[str, ...]


def with_known_defaults(groups: Sequence[Group], home: Path) -> list[list[Side]]:
    """The sides of each group, with the BOS default resolved if another group states on or off.

    The default stays unresolved if the tokenizer is not on this machine; nothing is downloaded.
    """
    values = {side.measurement.facts.get(Fact.BOS) for group in groups for side in group.sides} - {None}
    if TOKENIZERS_DEFAULT not in values or len(values) == 1:
        return [list(group.sides) for group in groups]
    all_references = [reference for group in groups for reference in group.references]
    return [[_resolved(side, group, all_references, home) for side in group.sides] for group in groups]


def _resolved(side: Side, group: Group, all_references: Iterable[str], home: Path) -> Side:
    measurement = side.measurement
    if measurement.facts.get(Fact.BOS) != TOKENIZERS_DEFAULT:
        return side
    # lm-eval's files name `org/model` without a commit; another side may know the commit.
    pinned = [other for r in group.references for other in all_references if other.startswith(f"{r}@")]
    for reference in (*group.references, *pinned):
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
