"""Decisions that may be taken at any time while documents are still being asked, about the difference that a comparison shows.

After a share of the documents, the difference is tested by the product's fixed test (`paired`: exact sign flip and bootstrap, on the
normalized score with its floor, subset means and averages), at the level that `boundary` gives for this share. The interval is the
fixed test's at that level: a repeated confidence interval (Jennison and Turnbull 1989, JRSS B 51), which covers the true difference at
all times together with a probability of at least 1 - error_rate.

**At the whole benchmark** difference, p-value and draws are those of the fixed test, and the decision is the fixed test's at the level
`final_level` (for an error rate of 5 %, two-sided: 2.4 %); the rest of the error rate has paid for the looks before. With `looks_before=False`
nothing is paid, and test, interval and decision are the fixed ones at the full error rate.

The level rests on the independence of successive sums and on the central limit theorem across looks; p-values at each look are exact under
exchangeability. For bounds without any approximation see `e_values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
import scipy
from pydantic import Field, model_validator

from evals.engine import Frozen
from evals.stats.boundary import boundary
from evals.stats.estimates import Estimate, Interval
from evals.stats.paired import Documents, PairedDraws, average_draws, bootstrap_p, paired_draws, symmetric
from evals.stats.resample import N_DRAWS, Floats, draws, measured
from evals.stats.sign_flip import distribution

# Draws that a quantile needs beyond it; farther out the normal distribution takes over, as in `paired.bootstrap_p`.
_FEW_DRAWS = 10


class Aim(StrEnum):
    """What a comparison is to show."""

    DIFFERENCE = "difference"
    """The difference is not 0."""
    NON_INFERIORITY = "non-inferiority"
    """The candidate loses less than the margin."""
    SUPERIORITY = "superiority"
    """The candidate gains more than the margin."""
    EQUIVALENCE = "equivalence"
    """The difference is smaller than the margin, in either direction."""


class Decision(StrEnum):
    """What the documents so far show."""

    BETTER = "better"
    """For a margin: better by more than the margin."""
    WORSE = "worse"
    """For a margin: worse by more than the margin."""
    NOT_WORSE = "not worse by the margin"
    NOT_BETTER = "not better by the margin"
    EQUIVALENT = "equivalent"
    OPEN = "open"


class Rule(Frozen):
    """When a comparison is decided."""

    aim: Aim = Field(default=Aim.DIFFERENCE, description="What is to be shown.")
    margin_points: float = Field(
        default=0.0, ge=0, le=100, description="Margin in points of the normalized score; 0 for a difference."
    )
    error_rate: float = Field(
        default=0.05,
        gt=4e-9,
        le=0.25,
        description="Probability of a wrong decision at any time. Two-sided: half of it on each side.",
    )
    two_sided: bool = Field(
        default=True,
        description="Whether the error rate is shared by both directions; else each direction has all of it.",
    )
    looks_before: bool = Field(
        default=True, description="Whether decisions before the whole benchmark are possible."
    )

    @model_validator(mode="after")
    def _check_margin(self) -> Rule:
        if self.aim is Aim.EQUIVALENCE and self.margin_points == 0:
            raise ValueError("equivalence needs a margin above 0 points")
        if self.aim is Aim.DIFFERENCE and self.margin_points:
            raise ValueError("a difference has no margin; use superiority, non-inferiority or equivalence")
        return self

    @property
    def side_error_rate(self) -> float:
        """Error rate of one direction over all times."""
        return self.error_rate / 2 if self.two_sided else self.error_rate

    def level(self, share: float) -> float:
        """Two-sided p-value below which the difference is shown after this share of the documents; 0 where no look is allowed."""
        if self.looks_before:
            return 2 * boundary(self.side_error_rate).level(share)
        return 2 * self.side_error_rate if share >= 1 else 0.0


class InterimLook(Frozen):
    """One look at a comparison whose documents are partly asked."""

    n: int = Field(ge=1, description="Documents compared so far.")
    n_whole: int = Field(
        ge=1, description="Documents of the whole benchmark, or of all benchmarks of an average."
    )
    delta_points: float = Field(description="Candidate minus base on these documents, in points.")
    p: float = Field(ge=0, le=1, description="Two-sided p-value of the fixed test on these documents.")
    level: float = Field(ge=0, le=1, description="Two-sided level at which it is tested now.")
    interval: Interval = Field(
        description="Interval of the true difference in points; valid at all times together, wider than one for this time alone."
    )
    decision: Decision = Field(description="What is shown.")
    stderr_points: float | None = Field(
        default=None, description="Standard error of the difference on these documents, in points."
    )

    @property
    def share(self) -> float:
        """Share of the documents that were compared."""
        return self.n / self.n_whole


def look(docs: Documents, n_whole: int, rule: Rule, *, n_draws: int = N_DRAWS, seed: int = 0) -> InterimLook:
    """Look at one benchmark after the first documents of its random order (`document_order`); base is side 0."""
    return look_at(paired_draws(docs, n_draws, seed), docs.n, n_whole, docs.n / n_whole, rule)


def average_look(
    benchmarks: Sequence[tuple[Documents, int]], rule: Rule, *, n_draws: int = N_DRAWS, seed: int = 0
) -> InterimLook:
    """Look at the mean over benchmarks, each with its number of documents as a whole; its share is that of the least advanced."""
    drawn = average_draws([paired_draws(docs, n_draws, seed) for docs, _ in benchmarks])
    share = min(docs.n / n_whole for docs, n_whole in benchmarks)
    return look_at(drawn, sum(d.n for d, _ in benchmarks), sum(n for _, n in benchmarks), share, rule)


def look_at(drawn: PairedDraws, n: int, n_whole: int, share: float, rule: Rule) -> InterimLook:
    """Look at a delta from its draws."""
    points = float(drawn.sides[1] - drawn.sides[0])
    points = points if abs(points) > 1e-9 else 0.0
    level = rule.level(share)
    swaps = distribution(drawn.parts)
    span = interval_at(drawn, level) if level > 0 else Interval(low=-100.0, high=100.0, level=1 - 1e-15)
    p = max(swaps.p(points), bootstrap_p(drawn.errors + points, points))
    return InterimLook(
        n=n,
        n_whole=n_whole,
        delta_points=points,
        p=p,
        level=level,
        interval=span,
        decision=decide(span, rule),
        stderr_points=float(drawn.errors.std()),
    )


def interval_at(drawn: PairedDraws, level: float) -> Interval:
    """The fixed test's interval of the difference in points at a two-sided level other than 5 %, for example 0.01."""
    points = float(drawn.sides[1] - drawn.sides[0])
    half = max(bootstrap_reach(drawn.errors, level), distribution(drawn.parts).reach(level))
    return symmetric(points if abs(points) > 1e-9 else 0.0, half).model_copy(
        update={"level": 1 - max(level, 1e-15)}
    )


def decide(span: Interval, rule: Rule) -> Decision:
    """What an interval of the difference in points shows under a rule."""
    margin = rule.margin_points
    above, below = span.low > margin, span.high < -margin
    if rule.aim is Aim.NON_INFERIORITY:
        return _first((span.low > -margin, Decision.NOT_WORSE), (below, Decision.WORSE))
    if rule.aim is Aim.SUPERIORITY:
        return _first((above, Decision.BETTER), (span.high < margin, Decision.NOT_BETTER))
    inside = rule.aim is Aim.EQUIVALENCE and -margin < span.low and span.high < margin
    return _first((inside, Decision.EQUIVALENT), (above, Decision.BETTER), (below, Decision.WORSE))


def _first(*cases: tuple[bool, Decision]) -> Decision:
    return next((decision for holds, decision in cases if holds), Decision.OPEN)


def score_look(docs: Documents, n_whole: int, error_rate: float = 0.05, *, seed: int = 0) -> Estimate:
    """The normalized score on the first documents with an interval that is valid at all times, in points, 0 to 100."""
    drawn = draws(docs.subsets, docs.pooled, seed=seed)[:, 0]
    value = float(measured(docs.subsets, docs.pooled)[0])
    level = 2 * boundary(error_rate / 2).level(docs.n / n_whole)
    half = bootstrap_reach(drawn - value, level)
    span = Interval(low=max(0.0, value - half), high=min(100.0, value + half), level=1 - level)
    return Estimate(value=value, interval=span, stderr_points=float(drawn.std()), n=docs.n)


def bootstrap_reach(errors: Floats, level: float) -> float:
    """The largest error that a two-sided bootstrap test at this level does not reject; the inverse of `paired.bootstrap_p`."""
    normal = float(scipy.stats.norm.isf(level / 2) * errors.std())
    beyond = level * (len(errors) + 1) - 1
    if beyond >= _FEW_DRAWS:
        place = len(errors) - int(np.ceil(beyond))
        return float(np.partition(np.abs(errors), place)[place])
    few = float(np.partition(np.abs(errors), len(errors) - _FEW_DRAWS)[len(errors) - _FEW_DRAWS])
    return max(normal, few) if errors.any() else 0.0


def prefix(docs: Documents, positions: Sequence[int]) -> Documents:
    """The documents at these positions of the subsets laid end to end, for example the first of `document_order`."""
    chosen = np.zeros(docs.n, dtype=bool)
    chosen[np.asarray(positions, dtype=int)] = True
    subsets, start = [], 0
    for s in docs.subsets:
        kept = chosen[start : start + s.n]
        start += s.n
        if kept.any():
            clusters = None if s.clusters is None else np.unique(s.clusters[kept], return_inverse=True)[1]
            sums = None if s.sums is None else s.sums[kept]
            subsets.append(
                replace(s, values=s.values[kept], weights=s.weights[kept], clusters=clusters, sums=sums)
            )
    return Documents(tuple(subsets), docs.pooled)
