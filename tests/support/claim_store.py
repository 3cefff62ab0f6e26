"""A card with verdicts, and an imported run, in a store."""

from __future__ import annotations

from evals.claims.facts import Facts
from evals.claims.records import (
    CardCheck,
    CheckKind,
    CheckOutcome,
    Claim,
    Measurement,
    Scale,
    Verdict,
    VerdictKind,
)
from evals.normalize import benchmark_score
from evals.results_files import FileFormat
from evals.stats import Estimate, Interval
from evals.suite import load_suite
from orchestrator.store import Store
from orchestrator.store.claim_records import (
    CardRecord,
    ImportedResultRecord,
    ImportedRunRecord,
    ReproductionRecord,
)
from tests.support.made_results import DEMO, samples_of, scores_of


def claims(store: Store, run_id: str) -> CardRecord:
    """A card of the demo's checkpoint in the store: one claim of each end, checks, a note; and an unchecked card."""
    suite = load_suite("smoke")
    ends = {
        "ifeval": (VerdictKind.REPRODUCED, 45.9, 45.83, "45.9 lies in the interval of ours, 45.83."),
        "bbh": (VerdictKind.NOT_REPRODUCED, 61.2, 49.13, "61.2 lies above the interval of ours."),
        "math": (
            VerdictKind.NOT_COMPARABLE,
            70.0,
            70.83,
            "The chat template differs: the card's was off, ours on.",
        ),
    }
    claimed = {
        name: Claim(
            subject="demo/slerp-with-noise",
            suite=suite.name,
            benchmark=name,
            title=suite.benchmark(name).title,
            value=value,
            rounding_points=0.05,
            scale=Scale.NORMALIZED,
            source="card.md, model-index, line 20",
        )
        for name, (_, value, _, _) in ends.items()
    }
    card = CardRecord(
        id="ca4d0001",
        source="card.md",
        name="slerp-with-noise",
        checkpoint="demo/slerp-with-noise",
        text="# slerp-with-noise\n\nA merge. <b>Not</b> markup here.\n",
        claims=tuple(claimed.values()),
    )
    store.put_card(card.model_copy(update={"id": "ca4d0002", "name": "another card"}))
    store.put_card(card)
    checks = (
        CardCheck(
            kind=CheckKind.AVERAGE, outcome=CheckOutcome.HOLDS, sentence="The average is that of its figures."
        ),
        CardCheck(
            kind=CheckKind.RELATIVE_CHANGE,
            outcome=CheckOutcome.FAILS,
            sentence="BBH +9.1 % does not follow from 61.2 and 58.0, which make +5.5 %.",
            line=31,
        ),
    )
    verdicts = tuple(
        Verdict(
            claim=claimed[name],
            kind=kind,
            reason=reason,
            measured=ours,
            difference_points=ours - value,
            interval=Interval(low=ours - 9.5, high=ours + 9.5),
        )
        for name, (kind, value, ours, reason) in ends.items()
    )
    store.put_reproduction(
        ReproductionRecord(
            card_id=card.id, run_id=run_id, candidate="slerp-with-noise", checks=checks,
            notes=("The card names no revision of its base.",), verdicts=verdicts,
        )
    )  # fmt: skip
    return card


def imported(store: Store, checkpoint: str = "someone/else-7B") -> ImportedRunRecord:
    """An imported run with one benchmark."""
    benchmark = load_suite("smoke").benchmark("bbh")
    scores = scores_of(benchmark, samples_of(DEMO[0], benchmark, 24), whole=True)
    result = benchmark_score(benchmark, scores)
    span = Interval(low=result.normalized - 8, high=result.normalized + 8)
    measurement = Measurement(
        checkpoint=checkpoint,
        facts=Facts(),
        scores=scores,
        result=result,
        estimate=Estimate(value=result.normalized, stderr_points=4.0, n=result.n, interval=span),
    )
    run = ImportedRunRecord(
        id="1a90a7ed",
        source="/results/results_2024-06-26.json",
        checkpoint=checkpoint,
        format=next(iter(FileFormat)),
        facts=Facts(),
        problems=("The file does not say which data type was used.",),
    )
    store.put_import(
        run, [ImportedResultRecord(suite="smoke", benchmark_digest="d", measurement=measurement)]
    )
    return run
