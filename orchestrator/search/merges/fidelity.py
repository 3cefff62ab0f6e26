"""Fidelity that grows: which questions each step of a search asks, and which merges go on from it.

    anchors    the likelihood of the right answers on a few questions of each objective
    subset     the objectives themselves on a share of their questions
    whole      the objectives

A merge goes on if it is among the best share of the results of its method that count: those of the trials before
n - window + 1, from which trial n was proposed as well. So the order in which evaluations end decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, stdev
from typing import Self

from pydantic import Field, model_validator

from evals.engine import Frozen
from evals.scores import Sample
from orchestrator.store.trial_records import TrialRecord

_LEAST_PAIRS = 3
"""Trials with both values from which the scale of a step is known."""


class FidelityStep(StrEnum):
    """How much of the objectives is asked."""

    ANCHORS = "anchors"
    SUBSET = "subset"
    WHOLE = "whole"


class Fidelity(Frozen):
    """Smaller evaluations before the whole objectives; only promising merges go on."""

    anchors: int | None = Field(
        default=None,
        ge=4,
        le=10_000,
        description="First step: the mean likelihood of the right answers on so many questions of each probe, spread over it, and on the "
        "first of each subset of a suite. Written answers count as right or wrong.",
    )
    subset: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Next step: the objectives' own values on this share of the questions.",
    )
    keep: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of the merges that goes on from each step: one goes on if it is among the best share of the results so far.",
    )

    @model_validator(mode="after")
    def _has_step(self) -> Self:
        if self.anchors is None and self.subset is None:
            raise ValueError("give `anchors`, `subset` or both")
        return self

    @property
    def steps(self) -> tuple[FidelityStep, ...]:
        """All steps in order, the whole objectives last."""
        asked = ((self.anchors, FidelityStep.ANCHORS), (self.subset, FidelityStep.SUBSET))
        return (*(step for value, step in asked if value is not None), FidelityStep.WHOLE)

    def count(self, step: FidelityStep, n_whole: int) -> int:
        """Number of questions of a set of `n_whole` that a step asks."""
        if step is FidelityStep.ANCHORS:
            return min(n_whole, self.anchors or n_whole)
        return max(1, math.ceil((self.subset or 1.0) * n_whole)) if step is FidelityStep.SUBSET else n_whole

    def text(self, step: FidelityStep) -> str:
        """What a step asks, in words."""
        if step is FidelityStep.ANCHORS:
            return f"likelihood of the right answers, {self.anchors} questions"
        return f"{self.subset or 0:.0%} of the questions" if step is FidelityStep.SUBSET else "all questions"


def likelihood(samples: Sequence[Sample]) -> float:
    """Mean likelihood of the right answers, of subsets with equal weight: its share of the choices' probabilities.

    A single continuation counts with its mean probability per character, a written answer as right or wrong.
    """
    by_subset: dict[str, list[float]] = {}
    for sample in samples:
        by_subset.setdefault(sample.subset, []).append(_of_right_answer(sample))
    return fmean(fmean(values) for values in by_subset.values())


def _of_right_answer(sample: Sample) -> float:
    if len(sample.choices) == 1 and len(sample.logprobs) == 1:
        return math.exp(sample.logprobs[0] / max(1, len(sample.choices[0])))
    if sample.target not in sample.choices or len(sample.choices) != len(sample.logprobs):
        return min(1.0, sample.correct)
    highest = max(sample.logprobs)
    shares = [math.exp(value - highest) for value in sample.logprobs]
    return shares[sample.choices.index(sample.target)] / sum(shares)


def goes_on(
    values: Sequence[float], others: Sequence[Sequence[float]], keep: float, *, in_any: bool = False
) -> bool:
    """Whether a merge with these values is among the best share `keep` of itself and `others`.

    Values are compared one by one: `in_any` says that one place among the best is enough, otherwise there is one value.
    """
    places = max(1, int(keep * (len(others) + 1)))
    ranks = [sum(other[n] > value for other in others) for n, value in enumerate(values)]
    return (min(ranks) if in_any else ranks[0]) < places


def estimated(stopped: float, pairs: Sequence[tuple[float, float]]) -> float:
    """What the optimiser takes for the whole value of a merge that left at a step.

    `pairs` are the step's value and the whole one of earlier merges that went on; mean and spread of the one are mapped onto those
    of the other. With too few of them only the means are.
    """
    if not pairs:
        return stopped
    steps, wholes = [step for step, _ in pairs], [whole for _, whole in pairs]
    spread = stdev(steps) if len(pairs) >= _LEAST_PAIRS else 0.0
    scale = stdev(wholes) / spread if spread > 0 else 1.0
    return fmean(wholes) + (stopped - fmean(steps)) * scale


def estimates(trial: TrialRecord, before: Sequence[TrialRecord]) -> tuple[float, ...] | None:
    """The estimated objectives of a stopped trial, from the trials of its method before it; None for others."""
    if not trial.steps or trial.objectives is not None:
        return None
    step = len(trial.steps) - 1
    both = [(t.steps[step], t.objectives) for t in before if t.objectives is not None and len(t.steps) > step]
    return tuple(
        estimated(value, [(at_step[n], whole[n]) for at_step, whole in both])
        for n, value in enumerate(trial.steps[step])
    )
