"""The records of probes: what was asked, what came of it, and what guessing would have given."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.errors import EvaluationError


class Family(StrEnum):
    """What a probe is about."""

    ARITHMETIC = "arithmetic"
    EMOTION = "emotion"
    REASONING = "reasoning"


class Difficulty(StrEnum):
    """How hard the questions of a probe are."""

    EASY = "easy"
    MEDIUM = "medium"
    STANDARD = "standard"
    PUBLISHED = "published"


class Form(StrEnum):
    """How an answer is taken from an engine."""

    GENERATED = "generated"
    SCORED = "scored"


class Split(StrEnum):
    """Which of the two disjoint sets of questions is asked."""

    SEARCH = "search"
    CONFIRMATION = "confirmation"


class Scoring(StrEnum):
    """How an answer becomes a credit."""

    PUBLISHED = "published"
    CORRECTED = "corrected"


class LevelKind(StrEnum):
    """An answerer that shows what a value of a probe means."""

    RANDOM = "random"
    CONSTANT = "constant"
    ECHO = "echo"
    RIGHT = "right"
    CEILING = "ceiling"

    @property
    def is_null(self) -> bool:
        """Whether this answerer knows nothing."""
        return self not in (LevelKind.RIGHT, LevelKind.CEILING)


class ProbeError(EvaluationError):
    """A probe that does not exist, or results that do not belong to it."""


class Level(Frozen):
    """The value that an answerer without a model gets, from running the probe's scoring over its answers."""

    kind: LevelKind = Field(description="Which answerer.")
    scoring: Scoring = Field(description="Scoring that its answers went through.")
    value: float = Field(description="Its probe value, 0 to 1.")
    meaning: str = Field(description="What the answerer does, one sentence.")


class ItemResult(Frozen):
    """One item's answer and its credit."""

    item: int = Field(ge=0, description="Number of the item in its set.")
    target: str = Field(description="The right answer.")
    response: str = Field(description="The written text, or what the answer tokens' probabilities amount to.")
    extracted: str | None = Field(description="The answer that was found; null if none.")
    published: float | None = Field(
        description="Credit by the published scoring, 0 to 1; null where there is none."
    )
    corrected: float = Field(description="Credit by the project's corrected scoring, 0 to 1.")
    answer_mass: float | None = Field(
        default=None,
        description="Probability that the next token is an answer at all; null for written answers.",
    )

    def credit(self, scoring: Scoring) -> float:
        """Credit by one scoring."""
        found = self.corrected if scoring is Scoring.CORRECTED else self.published
        if found is None:
            raise ProbeError(
                f"Item {self.item} has no credit by the {scoring} scoring: choose the corrected one."
            )
        return found


class ProbeResult(Frozen):
    """What one layer path or checkpoint got in one probe. A screening value, never a benchmark score."""

    probe: str = Field(description="Name of the probe.")
    key: str = Field(description="Its name without the split; the same for search and confirmation.")
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
        """Standard error of the value over another choice of as many items."""
        credits, mean = self.credits(scoring), self.value(scoring)
        if len(credits) < 2:
            return 0.0
        spread = math.fsum((c - mean) ** 2 for c in credits) / (len(credits) - 1)
        return math.sqrt(spread / len(credits))

    @property
    def answered(self) -> float:
        """Share of items in whose answer something could be found."""
        return sum(item.extracted is not None for item in self.items) / len(self.items)
