"""The verdict of a whole run: which differences to the base are shown, and what could not be compared."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from evals.engine import Frozen
from evals.stats import Interval
from orchestrator.compare.comparison import SIGNIFICANT, Comparison, ComparisonRow
from orchestrator.display.format import p_value


class Standing(StrEnum):
    """What a run's comparisons show of one candidate; each candidate has exactly one standing."""

    BETTER = "better"
    WORSE = "worse"
    MIXED = "better and worse"
    UNSHOWN = "no difference shown"
    REFUSED = "not compared"
    PENDING = "pending"
    UNSCORED = "no scores"
    LEFT = "left the race"


class Effect(Frozen):
    """A difference that holds after the correction, of one candidate on one benchmark or average."""

    candidate: str = Field(description="Display name of the candidate.")
    suite: str = Field(description="Name of the suite.")
    benchmark: str | None = Field(description="Name of the benchmark; null for the suite's average.")
    title: str = Field(description="Display name of the benchmark or average.")
    delta_points: float = Field(description="Candidate minus base, in points of the normalized score.")
    interval: Interval = Field(description="95 % interval of the difference, in points, of this row alone.")
    p_corrected: float = Field(description="p-value, Holm-corrected over the whole run.")
    forced: bool = Field(default=False, description="Whether compared in spite of reasons against it.")
    lower_is_better: bool = Field(
        default=False, description="Whether a negative difference is an improvement, as for perplexity."
    )

    @property
    def improved(self) -> bool:
        """Whether the difference is in the better direction."""
        return (self.delta_points > 0) is not self.lower_is_better

    @property
    def gain(self) -> float:
        """The difference in points, positive where it is an improvement."""
        return -self.delta_points if self.lower_is_better else self.delta_points

    @property
    def sentence(self) -> str:
        """For example `slerp-with-noise +17.0 IFEval (p 0.045)`."""
        forced = ", forced" if self.forced else ""
        return (
            f"{self.candidate} {self.delta_points:+z.1f} {self.title} (p {p_value(self.p_corrected)}{forced})"
        )


class Refusal(Frozen):
    """A reason why candidates were not compared, on all or some of their benchmarks."""

    reason: str = Field(description="The reason with its remedy, one sentence.")
    candidates: tuple[str, ...] = Field(description="Display names of the candidates that it concerns.")


class RunVerdict(Frozen):
    """What a run shows about all its candidates against one base, in one suite, with one engine.

    Made only from comparisons that were corrected as one family; candidates without one are pending.
    """

    base: str = Field(description="Display name of the base.")
    standings: dict[str, Standing] = Field(description="The standing of every candidate, by name.")
    average_effects: tuple[Effect, ...] = Field(description="Differences of the average, largest gain first.")
    benchmark_effects: tuple[Effect, ...] = Field(
        description="Differences of single benchmarks, largest gain first."
    )
    n_averages: int = Field(ge=0, description="Number of candidates whose average was compared.")
    partial: tuple[str, ...] = Field(default=(), description="Candidates with a partial score.")
    refusals: tuple[Refusal, ...] = Field(default=(), description="Reasons of refused comparisons.")
    n_tests: int = Field(default=0, ge=0, description="Number of tests that the p-values are corrected for.")
    early: tuple[str, ...] = Field(
        default=(), description="What was decided before the whole benchmark was asked, one text each."
    )

    def count(self, standing: Standing) -> int:
        """Number of candidates with a standing."""
        return sum(value is standing for value in self.standings.values())

    @property
    def complete(self) -> bool:
        """Whether every candidate has its comparison: nothing is concluded before."""
        return not self.count(Standing.PENDING)


def standing(comparison: Comparison) -> Standing:
    """The standing of a candidate whose p-values are corrected."""
    rows = (*comparison.rows, *comparison.averages)
    return standing_of([(row.improved if row.delta else None, row.p_corrected) for row in rows])


def standing_of(rows: Sequence[tuple[bool | None, float | None]]) -> Standing:
    """The standing that follows from a candidate's rows: whether each improved (None if refused), and corrected p."""
    if all(improved is None for improved, _ in rows):
        return Standing.REFUSED
    signs = {improved for improved, p in rows if improved is not None and p is not None and p < SIGNIFICANT}
    if len(signs) == 2:
        return Standing.MIXED
    if not signs:
        return Standing.UNSHOWN
    return Standing.BETTER if True in signs else Standing.WORSE


def run_verdict(
    base: str,
    comparisons: Sequence[Comparison],
    *,
    pending: Sequence[str] = (),
    partial: Sequence[str] = (),
) -> RunVerdict:
    """The verdict of comparisons that were corrected together; `pending` candidates have none yet."""
    rows = [(c.candidate, row) for c in comparisons for row in c.rows]
    averages = [(c.candidate, row) for c in comparisons for row in c.averages]
    refused: dict[str, dict[str, None]] = {}
    for candidate, row in (*rows, *averages):
        if row.delta is None:
            for reason in row.refused:
                refused.setdefault(reason, {})[candidate] = None
    return RunVerdict(
        base=base,
        standings={
            **dict.fromkeys(pending, Standing.PENDING),
            **{c.candidate: standing(c) for c in comparisons},
        },
        average_effects=_effects(averages),
        benchmark_effects=_effects(rows),
        n_averages=sum(row.delta is not None for _, row in averages),
        partial=tuple(partial),
        refusals=tuple(Refusal(reason=text, candidates=tuple(names)) for text, names in refused.items()),
        n_tests=max((c.n_tests for c in comparisons), default=0),
    )


_MOST_NAMED = 3


def verdict_sentences(verdict: RunVerdict) -> tuple[str, ...]:
    """The verdict as one sentence on the mean and one on single benchmarks, as plain text.

    For example `Mean: 0 of 5 better, 3 worse` and `Single benchmarks: slerp-with-noise +17.0 IFEval (p 0.045)`.
    Empty while comparisons are pending: nothing is concluded before.
    """
    if not verdict.complete:
        return ()
    sentences = []
    if verdict.n_averages:
        sentences.append(f"Mean: {_directions(verdict.average_effects, verdict.n_averages)}")
    if verdict.early:
        sentences.append(f"Decided early, without scores: {_first(verdict.early)}")
    if (
        verdict.n_averages
        or verdict.benchmark_effects
        or (verdict.count(Standing.UNSHOWN) and not verdict.early)
    ):
        sentences.append(f"Single benchmarks: {_named(verdict.benchmark_effects)}")
    return tuple(sentences)


def _first(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return "; ".join(texts[:_MOST_NAMED]) + (f"; and {more:,} more" if more > 0 else "")


def _directions(effects: Sequence[Effect], n: int) -> str:
    better = sum(effect.improved for effect in effects)
    return f"{better:,} of {n:,} better, {len(effects) - better:,} worse"


def _named(effects: Sequence[Effect]) -> str:
    """Up to four effects by name; of more, the largest gains and the largest loss, with counts."""
    if not effects:
        return "no difference shown"
    if len(effects) <= _MOST_NAMED + 1:
        return "; ".join(effect.sentence for effect in effects)
    better = [effect for effect in effects if effect.improved]
    worse = [effect for effect in effects if not effect.improved]
    parts = []
    if better:
        first = "; ".join(effect.sentence for effect in better[:_MOST_NAMED])
        parts.append(f"{len(better):,} better, most {first}")
    if worse:
        parts.append(f"{len(worse):,} worse, most {worse[-1].sentence}")
    return ". ".join(parts)


def _effects(rows: Sequence[tuple[str, ComparisonRow]]) -> tuple[Effect, ...]:
    effects = [
        Effect(
            candidate=candidate,
            suite=row.suite,
            benchmark=row.benchmark,
            title=row.title,
            delta_points=row.delta.delta_points,
            interval=row.delta.interval,
            p_corrected=row.p_corrected,
            forced=row.forced,
            lower_is_better=row.lower_is_better,
        )
        for candidate, row in rows
        if row.significant and row.delta is not None and row.p_corrected is not None
    ]
    return tuple(sorted(effects, key=lambda effect: -effect.gain))
