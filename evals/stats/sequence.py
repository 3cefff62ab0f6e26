"""The sequence of looks at one comparison: when they are taken, what they showed, and where it stopped.

A look is taken at fixed numbers of documents of a seeded random order, never at a time, so that a decision is a function of the
documents alone: another machine, another number of workers and a resumed attempt decide the same after the same documents.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from evals.engine import Frozen
from evals.scores import Sample
from evals.stats.document_order import ORDER
from evals.stats.estimates import Estimate
from evals.stats.paired import documents
from evals.stats.resample import measured
from evals.stats.stopping import Decision, InterimLook, Rule, look, score_look
from evals.suite import Benchmark

LEAST_IN_SUBSET = 3
"""Documents that every subset must have before the first look."""


class LookPlan(Frozen):
    """When a comparison is looked at, and by which rule."""

    rule: Rule = Field(description="When the comparison is decided.")
    first_share: float = Field(
        default=0.05, gt=0, le=1, description="Smallest share of the documents at which a look is taken."
    )
    slice_share: float = Field(
        default=0.05, gt=0, le=1, description="Share of the documents between two looks."
    )
    order_seed: int = Field(default=0, ge=0, description="Seed of the random order of the documents.")
    order: str = Field(default=ORDER, description="Procedure that makes the order.")

    def looks(self, n_whole: int, at_least: int = 1) -> tuple[int, ...]:
        """Numbers of documents after which a look is taken, ascending, not before `at_least`; the last one is `n_whole`."""
        step = max(1, math.ceil(self.slice_share * n_whole))
        first = min(n_whole, max(1, math.ceil(self.first_share * n_whole)))
        planned = (n for n in range(first, n_whole, step) if n >= at_least)
        return tuple(dict.fromkeys((*planned, n_whole)))


def _is_unset(value: object) -> bool:
    """Leaves a field out of the stored text of sequences without it."""
    return value is None or value == ()


class SubsetPart(Frozen):
    """The part of one subset of a benchmark that was asked for a race."""

    name: str = Field(description="Name of the subset, or of the benchmark if its documents are pooled.")
    n: int = Field(ge=1, description="Number of its documents that were asked.")
    n_whole: int = Field(ge=1, description="Number of its documents.")
    points: float = Field(
        description="Points of the benchmark's normalized score that a mean credit of 1 is worth here."
    )


class PartAnswers(Frozen):
    """What was answered to a part of the questions of a probe or benchmark. No score: a race decides from it who is asked the others."""

    items: tuple[int, ...] = Field(
        description="Numbers of the items that were asked, ascending: of a benchmark the places of its documents by subset and id."
    )
    credits: tuple[float, ...] = Field(
        description="Credit of each, 0 to 1; of a benchmark minus the base's. A probe that calibrates its answers does so over these items alone."
    )
    subsets: tuple[SubsetPart, ...] = Field(
        default=(),
        exclude_if=_is_unset,
        description="The subsets of a benchmark that the items belong to, in the order of the items. Empty for a probe.",
    )


class LookSequence(Frozen):
    """All looks at one comparison, in order."""

    plan: LookPlan = Field(description="When the looks were taken, and by which rule.")
    n_whole: int = Field(
        ge=0,
        description="Number of documents of the whole evaluation; 0 if not known because none was asked.",
    )
    looks: tuple[InterimLook, ...] = Field(
        description="The looks, the last of which decided; empty if the benchmark cannot be looked at in parts."
    )
    score: Estimate | None = Field(
        default=None,
        description="Normalized score of the candidate on the documents asked, with an interval that holds at all times; null without a look.",
    )
    base_score: float | None = Field(
        default=None, description="Normalized score of the base on the same documents."
    )
    left: str | None = Field(
        default=None,
        description="Why nothing was asked: what was decided on an earlier benchmark. Null if it was asked.",
    )
    part: PartAnswers | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="The answers, if it is a part of a probe or benchmark that was asked for a race. Null for any other evaluation.",
    )

    @property
    def last(self) -> InterimLook | None:
        """The last look; None if there was none."""
        return self.looks[-1] if self.looks else None

    @property
    def n(self) -> int:
        """Number of documents that were asked."""
        if self.left is not None:
            return 0
        if self.part is not None:
            return len(self.part.items)
        return self.looks[-1].n if self.looks else self.n_whole

    @property
    def decision(self) -> Decision:
        """What the last look showed."""
        return self.looks[-1].decision if self.looks else Decision.OPEN

    @property
    def early(self) -> bool:
        """Whether the evaluation stopped before its end."""
        return self.left is not None or self.n < self.n_whole

    @property
    def text(self) -> str:
        """The decision in words: `decided: worse by 8.2 points, after 120 of 541`."""
        if self.part is not None:
            return f"a part, asked for a race: {self.n:,} of {self.n_whole:,}"
        return decision_text(self)


def first_full(subsets: Sequence[str]) -> int:
    """Number of documents after which every subset has `LEAST_IN_SUBSET` of them, or all; `subsets` are those of the documents in order.

    Before, the mean over subsets is one over some subsets, and its error is not that of the documents alone.
    """
    missing = Counter({name: min(count, LEAST_IN_SUBSET) for name, count in Counter(subsets).items()})
    for n, name in enumerate(subsets, start=1):
        missing[name] -= 1
        if missing[name] == 0 and max(missing.values()) <= 0:
            return n
    return max(1, len(subsets))


def decision_text(sequence: LookSequence) -> str:
    """What was decided, by how many points, after how many documents."""
    last = sequence.last
    if sequence.left is not None:
        return f"not asked: {sequence.left}"
    if last is None:
        return f"not looked at in parts; all {sequence.n_whole:,} asked"
    after = f"after {last.n:,} of {sequence.n_whole:,}"
    points = abs(last.delta_points)
    margin = f"{sequence.plan.rule.margin_points:g} points"
    match last.decision:
        case Decision.OPEN:
            return f"not decided {after}"
        case Decision.EQUIVALENT:
            return f"decided: equivalent within {margin}, {after}"
        case Decision.NOT_WORSE | Decision.NOT_BETTER:
            worse = "worse" if last.decision is Decision.NOT_WORSE else "better"
            return f"decided: not {worse} by {margin} or more, {after}"
        case _:
            return f"decided: {last.decision} by {points:.1f} points, {after}"


def take_look(
    base: Sequence[Sample], candidate: Sequence[Sample], benchmark: Benchmark, n_whole: int, rule: Rule
) -> InterimLook:
    """Look at the candidate's documents so far, against the same documents of the base."""
    return look(documents([base, candidate], benchmark), n_whole, rule)


def sequence_of(
    plan: LookPlan,
    looks: Sequence[InterimLook],
    n_whole: int,
    base: Sequence[Sample],
    candidate: Sequence[Sample],
    benchmark: Benchmark,
) -> LookSequence:
    """The sequence with the score of both sides on the documents that were asked."""
    if not looks:
        return LookSequence(plan=plan, n_whole=n_whole, looks=())
    score = score_look(documents([candidate], benchmark), n_whole, plan.rule.error_rate)
    before = documents([base], benchmark)
    value = float(measured(before.subsets, before.pooled)[0])
    return LookSequence(plan=plan, n_whole=n_whole, looks=tuple(looks), score=score, base_score=value)
