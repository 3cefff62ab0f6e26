"""Pair the answers of two sides to the same questions."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.scores import Sample

_EQUAL = 1e-9


class Flip(StrEnum):
    """How two sides answered one question."""

    GAINED = "gained"
    LOST = "lost"
    BOTH_RIGHT = "both right"
    BOTH_WRONG = "both wrong"


class Pair(Frozen):
    """One question with both answers."""

    base: Sample = Field(description="The base's answer.")
    candidate: Sample = Field(description="The candidate's answer.")
    lower_is_better: bool = Field(default=False, description="Whether the lower value is the better one.")

    @property
    def flip(self) -> Flip:
        """Which side did better, as `Delta.gained` and `Delta.lost` count it; equal ones are right from 0.5."""
        base, candidate = self.base.correct, self.candidate.correct
        if abs(base - candidate) < _EQUAL:
            return Flip.BOTH_RIGHT if base >= 0.5 else Flip.BOTH_WRONG
        return Flip.GAINED if (candidate > base) is not self.lower_is_better else Flip.LOST

    @property
    def name(self) -> str:
        """Subset and document, as an address names them."""
        return f"{self.base.subset}:{self.base.doc_id}"


def paired(
    base: tuple[Sample, ...], candidate: tuple[Sample, ...], *, lower_is_better: bool = False
) -> tuple[Pair, ...]:
    """The questions that both sides answered, in the base's order."""
    by_document = {(s.subset, s.doc_id): s for s in candidate}
    return tuple(
        Pair(base=s, candidate=by_document[s.subset, s.doc_id], lower_is_better=lower_is_better)
        for s in base
        if (s.subset, s.doc_id) in by_document
    )
