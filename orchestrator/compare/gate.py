"""Whether a candidate holds a policy against its base: GO, NO-GO or INCONCLUSIVE, from one comparison.

GO: every critical requirement is shown to hold, each by a one-sided test at the policy's error rate, divided by the number of
candidates tried. All must hold, so that no further correction is due (intersection-union test, Berger 1982). NO-GO: one critical
requirement is shown to be broken, each tested at the error rate divided by the number of critical requirements (Bonferroni), or a gain is
required and the whole benchmark does not show it. INCONCLUSIVE: anything else, with what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import scipy
from pydantic import Field

from evals.engine import Frozen
from evals.stats import Interval, PairedDraws
from evals.stats.stopping import Aim, Decision, Rule, decide, interval_at
from evals.suite import Suite
from orchestrator.compare.comparison import Comparison, ComparisonRow
from orchestrator.compare.gate_policy import Policy, Requirement
from orchestrator.compare.pairs import RowKey, is_partial
from orchestrator.errors import PolicyError

_NAMED = 3
"""Requirements that the sentence names; the table has all."""
GO_CODE, NO_GO_CODE, INCONCLUSIVE_CODE = 0, 1, 3


class GateVerdict(StrEnum):
    """What a gate says."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """0, 1 or 3; 2 is bad input."""
        return {"GO": GO_CODE, "NO-GO": NO_GO_CODE}.get(self.value, INCONCLUSIVE_CODE)


class Outcome(StrEnum):
    """What the answers show about one requirement."""

    HELD = "held"
    BROKEN = "broken"
    OPEN = "open"
    """Too few answers to show either."""
    NOT_COMPARED = "not compared"


class RequirementResult(Frozen):
    """One requirement and what the answers show about it."""

    benchmark: str | None = Field(description="Name of the benchmark; null for the suite's average.")
    title: str = Field(description="Display name.")
    requirement: str = Field(description="The requirement in words.")
    critical: bool = Field(description="Whether it decides.")
    outcome: Outcome = Field(description="What is shown.")
    n: int | None = Field(description="Compared documents; null if not compared.")
    delta_points: float | None = Field(description="Candidate minus base in points; null if not compared.")
    interval: Interval | None = Field(
        description="Interval of the difference in points: each end one-sided at the error rate of GO. Null if not compared."
    )
    reason: str = Field(description="Why this outcome, one sentence.")
    remedy: str | None = Field(
        default=None, description="What to do about it, with the command; null if nothing."
    )
    forced: bool = Field(default=False, description="Whether compared in spite of reasons against it.")


class GateReport(Frozen):
    """The verdict of a gate with its reasons."""

    verdict: GateVerdict = Field(description="GO, NO-GO or INCONCLUSIVE.")
    exit_code: int = Field(description="0 for GO, 1 for NO-GO, 3 for INCONCLUSIVE.")
    candidate: str = Field(description="Display name of the candidate.")
    base: str = Field(description="Display name of the base.")
    suite: str = Field(description="Name of the suite.")
    error_rate: float = Field(description="Error rate of the policy.")
    n_candidates: int = Field(ge=1, description="Candidates that GO is corrected for, this one included.")
    results: tuple[RequirementResult, ...] = Field(
        description="Every requirement, in the suite's order, the average last."
    )
    budget_ended: str | None = Field(
        default=None, description="How the budget ended before the decision; null if it did not."
    )

    @property
    def sentence(self) -> str:
        """The verdict with its reasons in one sentence."""
        deciding = [r for r in self.results if r.critical]
        held = sum(r.outcome is Outcome.HELD for r in deciding)
        if self.verdict is GateVerdict.GO:
            count = f"all {held} critical requirements hold" if held > 1 else "the critical requirement holds"
            return f"GO: {count} against {self.base}."
        worst = Outcome.BROKEN if self.verdict is GateVerdict.NO_GO else None
        named = [r for r in deciding if (r.outcome is worst if worst else r.outcome is not Outcome.HELD)]
        more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        reasons = "; ".join(f"{r.title}: {r.reason}" for r in named[:_NAMED]) + more
        ended = f" {self.budget_ended}" if self.budget_ended and worst is None else ""
        return f"{self.verdict}: {reasons}.{ended}"


def gate_report(
    policy: Policy,
    comparison: Comparison,
    draws: Mapping[RowKey, PairedDraws],
    suite: Suite | None,
    *,
    budget_ended: str | None = None,
) -> GateReport:
    """Judge a comparison by a policy.

    `draws` are those of the comparison's rows on samples; a row without them is tested by its standard error. `suite` is the policy's suite,
    None if it is not known here (imported results of other tasks). Raises PolicyError for a benchmark that neither has.
    """
    rows = {
        row.benchmark: row for row in (*comparison.rows, *comparison.averages) if row.suite == policy.suite
    }
    required = _required(policy, rows, suite)
    n_critical = sum(requirement.critical for requirement in required.values())
    tried = max(1, comparison.n_candidates) if policy.correct_for_sweep else 1
    results = []
    for name, requirement in required.items():
        title = _title(name, rows, suite)
        row, drawn = rows.get(name), draws.get((policy.suite, name))
        rates = (
            policy.error_rate / tried,
            policy.error_rate / n_critical if requirement.critical else policy.error_rate,
        )
        results.append(_judge(policy.suite, name, title, requirement, row, drawn, rates, suite))
    verdict = _verdict(results)
    return GateReport(
        verdict=verdict,
        exit_code=verdict.exit_code,
        candidate=comparison.candidate,
        base=comparison.base,
        suite=policy.suite,
        error_rate=policy.error_rate,
        n_candidates=tried,
        results=tuple(results),
        budget_ended=budget_ended,
    )


def _verdict(results: Sequence[RequirementResult]) -> GateVerdict:
    deciding = [r.outcome for r in results if r.critical]
    if Outcome.BROKEN in deciding:
        return GateVerdict.NO_GO
    return GateVerdict.GO if all(o is Outcome.HELD for o in deciding) else GateVerdict.INCONCLUSIVE


def _required(
    policy: Policy, rows: Mapping[str | None, ComparisonRow], suite: Suite | None
) -> dict[str | None, Requirement]:
    """Each required benchmark with its requirement, in the suite's order; the average last."""
    names = list(
        dict.fromkeys(
            [*([b.name for b in suite.benchmarks] if suite else []), *(n for n in rows if n is not None)]
        )
    )
    unknown = [name for name in policy.benchmarks if name not in names]
    if unknown:
        raise PolicyError(
            f"benchmarks.{unknown[0]}: {policy.suite} has no such benchmark; it has {', '.join(names) or 'none'}."
        )
    required: dict[str | None, Requirement] = {}
    for name in names:
        requirement = policy.benchmarks.get(name, policy.others)
        if requirement is not None:
            required[name] = requirement
    if policy.average is not None:
        required[None] = policy.average
    return required


def _title(name: str | None, rows: Mapping[str | None, ComparisonRow], suite: Suite | None) -> str:
    if name is None:
        return "Average"
    if name in rows:
        return rows[name].title
    return suite.benchmark(name).title if suite is not None else name


def _judge(
    suite_name: str,
    name: str | None,
    title: str,
    requirement: Requirement,
    row: ComparisonRow | None,
    drawn: PairedDraws | None,
    rates: tuple[float, float],
    suite: Suite | None,
) -> RequirementResult:
    """One requirement; `rates` are the one-sided error rates of *held* and of *broken*."""
    partial_average = name is None and row is not None and row.delta is not None and bool(row.notes)
    if row is None or row.delta is None or partial_average:
        why, advice = _not_compared(suite_name, name, row, suite)
        return RequirementResult(
            benchmark=name, title=title, requirement=requirement.text, critical=requirement.critical, outcome=Outcome.NOT_COMPARED,
            n=None, delta_points=None, interval=None, reason=why, remedy=advice,
        )  # fmt: skip
    held, broken = (_interval(row, drawn, 2 * rate) for rate in rates)
    partial = is_partial(row)
    outcome, reason = _outcome(requirement, held, broken, whole=not partial)
    remedy: str | None = None
    if outcome is Outcome.OPEN:
        remedy = (
            "evaluate the whole benchmark: the same `mergeboard eval` without --limit"
            if partial
            else "no more documents of this benchmark exist: widen the margin, or require a benchmark with more documents"
        )
    return RequirementResult(
        benchmark=name,
        title=title,
        requirement=requirement.text,
        critical=requirement.critical,
        outcome=outcome,
        n=row.delta.n,
        delta_points=row.delta.delta_points,
        interval=held,
        reason=reason,
        remedy=remedy,
        forced=row.forced,
    )


def _outcome(
    requirement: Requirement, held: Interval, broken: Interval, *, whole: bool
) -> tuple[Outcome, str]:
    aim, margin = requirement.aim, requirement.margin_points
    rule = Rule(aim=aim, margin_points=margin)
    good = Decision.BETTER if aim is Aim.SUPERIORITY else Decision.NOT_WORSE
    span = f"{held.low:+z.2f} … {held.high:+z.2f} points"
    if decide(held, rule) is good:
        return Outcome.HELD, f"{requirement.text}, and the difference is {span}"
    if decide(broken, rule) in (Decision.WORSE, Decision.NOT_BETTER):
        return (
            Outcome.BROKEN,
            f"{requirement.text}, and the difference is {broken.low:+z.2f} … {broken.high:+z.2f} points",
        )
    if aim is Aim.SUPERIORITY and margin == 0 and whole:
        return Outcome.BROKEN, f"{requirement.text}, and the whole benchmark shows no gain: {span}"
    return Outcome.OPEN, f"{requirement.text}, and the answers leave {span} open"


def _interval(row: ComparisonRow, drawn: PairedDraws | None, level: float) -> Interval:
    """The interval at a two-sided level; without samples from the standard error, by the normal distribution."""
    if drawn is not None:
        return interval_at(drawn, level)
    assert row.delta is not None
    half = float(scipy.stats.norm.isf(level / 2)) * row.delta.stderr_points
    points = row.delta.delta_points
    return Interval(low=max(-100.0, points - half), high=min(100.0, points + half), level=1 - level)


def _not_compared(
    suite_name: str, name: str | None, row: ComparisonRow | None, suite: Suite | None
) -> tuple[str, str]:
    """Why there is no difference to test, and what to do."""
    if name is None:
        number = len(suite.benchmarks) if suite is not None else "all"
        return (
            f"the average needs all {number} benchmarks, whole and compared on samples",
            f"evaluate both on the whole suite: `mergeboard eval CHECKPOINT --suite {suite_name}`",
        )
    command = f"`mergeboard eval CHECKPOINT --suite {suite_name} --benchmark {name}`"
    if row is None:
        return "neither has been evaluated on it", f"evaluate both: {command}"
    if row.base is None or row.candidate is None:
        side = "base" if row.base is None else "candidate"
        return f"the {side} has not been evaluated on it", f"evaluate the {side}: {command}"
    reasons = "; ".join(row.refused)
    return reasons, f"evaluate both alike: {command}; --force compares in spite of it"
