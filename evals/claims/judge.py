"""The verdict on a claim, given our own measurement. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from evals.claims.facts import OF_CLAIMS, Difference, Fact
from evals.claims.records import Claim, Measurement, Scale, SuiteMeasurement, Verdict, VerdictKind
from evals.stats import Estimate


def judge(claim: Claim, measured: Sequence[Measurement], *, force: bool = False) -> Verdict:
    """The verdict on one benchmark's claim.

    `measured` holds our result, once per scoring stage if the benchmark has several. The stage that the claim names is used;
    if it names none, the closest one, and the reason says so.
    """
    if not measured:
        return _refuse(claim, f"{claim.title} was not measured")
    closest = sorted(measured, key=lambda m: abs(_our_value(claim, m) - claim.value))
    allowed = [m for m in closest if not _obstacles(claim, m)]
    if allowed:
        return _judge_measurement(claim, allowed[0], stages=len(measured) > 1)
    first = next((m for m in measured if not _stage_differs(claim, m)), measured[0])
    reason = "; ".join(_obstacles(claim, first))
    if not force:
        return _refuse(claim, reason, first)
    return _judge_measurement(claim, first, stages=False).model_copy(
        update={"forced": True, "reason": f"forced although {reason}"}
    )


def no_suite(claim: Claim) -> Verdict:
    """The verdict on a claim about a benchmark that no suite has."""
    return _refuse(claim, f"no suite of ours has {claim.benchmark or claim.title}")


def judge_average(claim: Claim, measured: SuiteMeasurement | None, *, force: bool = False) -> Verdict:
    """The verdict on a claim about a suite's average."""
    if measured is None or not measured.parts:
        return _refuse(claim, "no benchmark of the suite was measured")
    reasons = []
    if measured.missing:
        reasons.append(
            f"{_join_names(measured.missing)} {'is' if len(measured.missing) == 1 else 'are'} missing or partial, and an "
            "average over fewer benchmarks is not the board's"
        )
    for part in measured.parts:
        for reason in _obstacles(claim.model_copy(update={"benchmark": part.result.benchmark}), part):
            if reason not in reasons:
                reasons.append(reason)
    if reasons and not force:
        return _refuse(claim, "; ".join(reasons))
    verdict = _compare(claim, measured.estimate.value, measured.estimate)
    if reasons:
        return verdict.model_copy(update={"forced": True, "reason": f"forced although {'; '.join(reasons)}"})
    return verdict


def _judge_measurement(claim: Claim, ours: Measurement, *, stages: bool) -> Verdict:
    value = _our_value(claim, ours)
    verdict = _compare(claim, value, _on_scale(claim, ours))
    stage = ours.facts.get(Fact.STAGE)
    if stages and claim.facts.get(Fact.STAGE) is None and stage is not None:
        closest = f"the claim names no scoring stage; stage {stage} comes closest"
        return verdict.model_copy(update={"reason": f"{verdict.reason}; {closest}"})
    if verdict.kind is VerdictKind.NOT_REPRODUCED and _is_raw(claim, ours):
        raw = 100 * ours.result.raw
        reason = f"the claimed {claim.value:.2f} is the raw score ({raw:.2f} here), the board's normalized one is {value:.2f}"
        return verdict.model_copy(update={"kind": VerdictKind.NOT_COMPARABLE, "reason": reason})
    return verdict


def _compare(claim: Claim, value: float, estimate: Estimate) -> Verdict:
    interval = estimate.interval
    holds = interval.holds(claim.value, widened_by=claim.rounding_points)
    where = "lies in" if holds else ("is above" if claim.value > value else "is below")
    return Verdict(
        claim=claim,
        kind=VerdictKind.REPRODUCED if holds else VerdictKind.NOT_REPRODUCED,
        reason=f"the claim {where} the 95 % interval {interval.low:.2f} to {interval.high:.2f} of our {value:.2f}",
        measured=value,
        difference_points=value - claim.value,
        interval=interval,
    )


def _refuse(claim: Claim, reason: str, ours: Measurement | None = None) -> Verdict:
    return Verdict(
        claim=claim,
        kind=VerdictKind.NOT_COMPARABLE,
        reason=reason,
        measured=ours.result.normalized if ours is not None else None,
        interval=ours.estimate.interval if ours is not None else None,
    )


def _obstacles(claim: Claim, ours: Measurement) -> list[str]:
    """Why the claim and the measurement are not comparable; empty if they are."""
    reasons = [f"the claim is unclear: {remark}" for remark in claim.unclear]
    differences = claim.facts.differences(ours.facts, OF_CLAIMS)
    if ours.result.partial and claim.facts.get(Fact.LIMIT) != ours.facts.get(Fact.LIMIT):
        reasons.append(f"our score of {ours.result.title} is partial ({ours.result.n} documents)")
    if ours.result.alarms:
        alarms = _join_names(sorted({a.kind.value for a in ours.result.alarms}))
        reasons.append(f"our responses to {ours.result.title} raised an alarm ({alarms})")
    reasons += [_difference_text(d) for d in differences]
    if (
        claim.of_board
        and not ours.result.comparable_to_board
        and not any(d.fact is Fact.STAGE for d in differences)
    ):
        reasons.append(f"our score is not measured as the board's: {(ours.result.remark or '').rstrip('.')}")
    return reasons


def _difference_text(difference: Difference) -> str:
    return difference.sentence("claim", "ours")


def _stage_differs(claim: Claim, ours: Measurement) -> bool:
    return bool(claim.facts.differences(ours.facts, (Fact.STAGE,)))


def _our_value(claim: Claim, ours: Measurement) -> float:
    return 100 * ours.result.raw if claim.scale is Scale.RAW else ours.result.normalized


def _on_scale(claim: Claim, ours: Measurement) -> Estimate:
    """Our estimate on the claim's scale. The raw score is a linear function of the normalized one."""
    if claim.scale is Scale.NORMALIZED:
        return ours.estimate
    stretch = _stretch(ours)
    shift = 100 * ours.result.raw - stretch * ours.result.normalized
    span = ours.estimate.interval
    moved = span.model_copy(
        update={
            "low": shift + stretch * span.low,
            "high": shift + stretch * span.high,
        }
    )
    return ours.estimate.model_copy(
        update={
            "value": 100 * ours.result.raw,
            "interval": moved,
            "stderr_points": stretch * ours.estimate.stderr_points,
        }
    )


def _stretch(ours: Measurement) -> float:
    """Points of the raw score per point of the normalized score."""
    bounds = [s.lower_bound for s in ours.scores]
    return 1 - sum(bounds) / len(bounds) if bounds else 1.0


def _is_raw(claim: Claim, ours: Measurement) -> bool:
    """Whether a claim that misses the normalized score equals the raw one within half a standard error.

    The board's own figures are never raw.
    """
    raw = 100 * ours.result.raw
    if claim.of_board or claim.scale is Scale.RAW or abs(raw - ours.result.normalized) < 0.5:
        return False
    spread = _stretch(ours) * ours.estimate.stderr_points
    return abs(claim.value - raw) <= claim.rounding_points + 0.5 * spread


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
