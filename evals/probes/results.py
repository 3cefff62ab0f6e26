"""Records of probes: enums, reference levels and results."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.errors import EvaluationError


class Family(StrEnum):
    """Topic of a probe."""

    ARITHMETIC = "arithmetic"
    EMOTION = "emotion"
    REASONING = "reasoning"


class Difficulty(StrEnum):
    """Difficulty of a probe's questions."""

    EASY = "easy"
    MEDIUM = "medium"
    STANDARD = "standard"
    PUBLISHED = "published"


class Form(StrEnum):
    """Whether answers are generated or scored by their probabilities."""

    GENERATED = "generated"
    SCORED = "scored"


class Split(StrEnum):
    """One of the two disjoint sets of questions."""

    SEARCH = "search"
    CONFIRMATION = "confirmation"


class Scoring(StrEnum):
    """Scoring method."""

    PUBLISHED = "published"
    CORRECTED = "corrected"


class LevelKind(StrEnum):
    """A reference answerer."""

    RANDOM = "random"
    CONSTANT = "constant"
    ECHO = "echo"
    RIGHT = "right"
    CEILING = "ceiling"

    @property
    def is_null(self) -> bool:
        """Whether this answerer has no knowledge of the answers."""
        return self not in (LevelKind.RIGHT, LevelKind.CEILING)


class ProbeError(EvaluationError):
    """A probe does not exist, or results do not belong to it."""


class Level(Frozen):
    """The probe's value for the answers of a reference answerer."""

    kind: LevelKind = Field(description="The reference answerer.")
    scoring: Scoring = Field(description="Scoring of the answers.")
    value: float = Field(description="Probe value, 0 to 1.")
    meaning: str = Field(description="Behaviour of the answerer, in one sentence.")


class ItemResult(Frozen):
    """One item's answer and its credit."""

    item: int = Field(ge=0, description="Number of the item in its set.")
    target: str = Field(description="The correct answer.")
    response: str = Field(description="The generated text, or the answers' probabilities.")
    extracted: str | None = Field(description="The extracted answer; null if none.")
    published: float | None = Field(
        description="Credit by the published scoring, 0 to 1; null if there is none."
    )
    corrected: float = Field(description="Credit by the corrected scoring, 0 to 1.")
    answer_mass: float | None = Field(
        default=None,
        description="Total probability of the scored answers; null for generated answers.",
    )

    def credit(self, scoring: Scoring) -> float:
        """Credit by one scoring."""
        credit = self.corrected if scoring is Scoring.CORRECTED else self.published
        if credit is None:
            raise ProbeError(
                f"Item {self.item} has no credit by the {scoring} scoring: choose the corrected one."
            )
        return credit


class ProbeResult(Frozen):
    """Result of one layer path or checkpoint in one probe; a screening value, not a benchmark score."""

    probe: str = Field(description="Name of the probe.")
    key: str = Field(description="Name without the split; the same for search and confirmation.")
    split: Split = Field(description="Search set or confirmation set.")
    digest: str = Field(description="Digest of the probe's definition, prompts, data and scoring.")
    items: tuple[ItemResult, ...] = Field(description="One entry per item, in order.")

    def credits(self, scoring: Scoring) -> tuple[float, ...]:
        """Credit of every item, in order."""
        return tuple(item.credit(scoring) for item in self.items)

    def value(self, scoring: Scoring) -> float:
        """The probe's value: the mean credit."""
        return math.fsum(self.credits(scoring)) / len(self.items)

    def stderr(self, scoring: Scoring) -> float:
        """Standard error of the value over samples of as many items."""
        credits, mean = self.credits(scoring), self.value(scoring)
        if len(credits) < 2:
            return 0.0
        spread = math.fsum((c - mean) ** 2 for c in credits) / (len(credits) - 1)
        return math.sqrt(spread / len(credits))

    @property
    def answered(self) -> float:
        """Share of items with an extracted answer."""
        return sum(item.extracted is not None for item in self.items) / len(self.items)
