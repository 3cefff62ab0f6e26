"""Judge a card's claims by stored scores and keep the verdicts in the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.claims.facts import Fact
from evals.claims.judge import judge, judge_average, no_suite
from evals.claims.plausible import impossible
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Claim, Measurement, Verdict, VerdictKind
from evals.suite import load_suite
from orchestrator.compare import Side, suite_measurement
from orchestrator.compare.run_comparisons import results_of_run, sides
from orchestrator.exchange.imports import card_record
from orchestrator.plan.plan import Plan
from orchestrator.reproduce.plan import ReproductionPlan
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.claim_records import ReproductionRecord

Key = tuple[str, str]  # suite and benchmark


def reproduce(
    path: Path, planned: ReproductionPlan, run_id: str, settings: Settings, *, force: bool
) -> ReproductionRecord:
    """Judge the card's claims by the run's results and store the verdicts."""
    assert planned.plan is not None
    with Store.open(settings.database_url) as store:
        results = results_of_run(store, run_id)
        result = next((r for r in results if r.candidate.name == planned.target.name), None)
        measured = sides(result, settings.home) if result is not None else []
        record = ReproductionRecord(
            card_id=planned.card_id,
            run_id=run_id,
            candidate=planned.target.name,
            checks=planned.checks,
            notes=planned.notes,
            verdicts=verdicts_of(
                planned.card.claims,
                measured,
                missing=_missing(planned.plan),
                checks=planned.checks,
                force=force,
            ),
        )
        store.put_card(card_record(path, planned.card))
        store.put_reproduction(record)
    return record


def verdicts_of(
    claims: Sequence[Claim],
    measured: Sequence[Side],
    *,
    missing: Mapping[Key, str] | None = None,
    checks: Sequence[CardCheck] = (),
    force: bool = False,
) -> tuple[Verdict, ...]:
    """One verdict per claim. `missing` maps benchmarks that could not be measured to the reason.

    If a check of the parameter count fails, the recipe does not make the published file: no claim is judged.
    """
    by_key: dict[Key, list[Side]] = defaultdict(list)
    for side in measured:
        by_key[_key(side.measurement)].append(side)
    verdicts = [_verdict(claim, by_key, missing or {}, force) for claim in claims]
    failed = next(
        (c for c in checks if c.kind is CheckKind.PARAMETERS and c.outcome is CheckOutcome.FAILS), None
    )
    return tuple(verdicts if failed is None or force else [_of_another(v, failed.sentence) for v in verdicts])


def _verdict(
    claim: Claim, by_key: Mapping[Key, list[Side]], missing: Mapping[Key, str], force: bool
) -> Verdict:
    reason = impossible(claim)
    if reason is not None and not force:
        return Verdict(claim=claim, kind=VerdictKind.IMPOSSIBLE, reason=reason)
    if claim.suite is None:
        return no_suite(claim)
    if claim.benchmark is None:
        suite = load_suite(claim.suite)
        main = [by_key[suite.name, b.name][0] for b in suite.benchmarks if (suite.name, b.name) in by_key]
        return judge_average(claim, suite_measurement(suite, main), force=force)
    key = (claim.suite, claim.benchmark)
    verdict = judge(claim, [side.measurement for side in by_key.get(key, ())], force=force)
    if key not in by_key and key in missing:
        return verdict.model_copy(update={"reason": f"{claim.title} cannot be measured here: {missing[key]}"})
    return verdict


def verdict_on(claim: Claim, measured: Sequence[Measurement]) -> Verdict | None:
    """The verdict on one benchmark's claim by measurements of its checkpoint; None if they do not have the benchmark."""
    key = (claim.suite, claim.benchmark)
    matches = [m for m in measured if claim.benchmark is not None and _key(m) == key]
    return judge(claim, matches) if matches else None


def _of_another(verdict: Verdict, sentence: str) -> Verdict:
    """Change a verdict to "not comparable", because the measured file is not the claimed one; an impossible claim stays so."""
    if verdict.kind is VerdictKind.IMPOSSIBLE:
        return verdict
    reasons = [sentence.rstrip(".")]
    if verdict.kind is VerdictKind.NOT_COMPARABLE:
        reasons.append(verdict.reason)
    return verdict.model_copy(
        update={"kind": VerdictKind.NOT_COMPARABLE, "reason": "; ".join(reasons), "difference_points": None}
    )


def _key(measurement: Measurement) -> Key:
    return measurement.facts.known[Fact.SUITE], measurement.result.benchmark


def _missing(plan: Plan) -> dict[Key, str]:
    return {(m.suite, m.benchmark): m.reason for m in plan.missing}
