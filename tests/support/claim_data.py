"""Imported runs, cards and verdicts for tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime

from evals.claims.facts import Fact, Facts
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
from evals.results_files import FileFormat
from evals.scores import BenchmarkScore, Score
from evals.stats import Estimate, Interval
from orchestrator.store.claim_records import (
    CardRecord,
    ImportedResultRecord,
    ImportedRunRecord,
    ReproductionRecord,
)

HUB_NAME = "meta-llama/Meta-Llama-3.1-70B-Instruct"


def imported_run(number: int = 1, **fields: object) -> ImportedRunRecord:
    values = {
        "id": f"{number:016x}",
        "source": f"/runs/{number}/results.json",
        "checkpoint": HUB_NAME,
        "revision": "1605565b47bb9346c5515c34102e054115b4f98b",
        "format": FileFormat.HARNESS,
        "measured_at": datetime(2024, 11, 6, tzinfo=UTC),
        "facts": Facts(known={Fact.TEMPLATE: "on"}),
        "ignored": ("other_task",),
    }
    return ImportedRunRecord.model_validate(values | fields)


def imported_result(value: float = 0.4, **fields: object) -> ImportedResultRecord:
    score = Score(
        benchmark="musr", subset="leaderboard_musr_murder_mysteries", metric="acc_norm", value=value, stderr=None,
        n=250, n_full=250, lower_bound=0.5, task_version="1.0",
    )  # fmt: skip
    result = BenchmarkScore(
        benchmark="musr", title="MuSR", metric="acc_norm", raw=value, normalized=100 * value, n=250, partial=True,
        comparable_to_board=True,
    )  # fmt: skip
    span = Interval(low=100 * value - 3, high=100 * value + 3)
    measurement = Measurement(
        checkpoint=HUB_NAME,
        facts=Facts(known={Fact.SUITE: "leaderboard-v2", Fact.BENCHMARK: "musr"}),
        scores=(score,),
        result=result,
        estimate=Estimate(value=100 * value, interval=span, stderr_points=1.5, n=250),
    )
    values = {"suite": "leaderboard-v2", "benchmark_digest": "d" * 16, "measurement": measurement}
    return ImportedResultRecord.model_validate(values | fields)


def claim(value: float = 20.15, benchmark: str | None = "musr") -> Claim:
    return Claim(
        subject=HUB_NAME,
        suite="leaderboard-v2",
        benchmark=benchmark,
        title="MuSR (0-shot)",
        value=value,
        rounding_points=0.005,
        scale=Scale.NORMALIZED,
        source="card.md, model-index, line 20",
    )


def card_record(number: int = 1) -> CardRecord:
    return CardRecord(
        id=f"{number:016x}",
        source="card.md",
        name="model",
        checkpoint=HUB_NAME,
        text="---\nlicense: mit\n---\n# model\n",
        checks=(CardCheck(kind=CheckKind.AVERAGE, outcome=CheckOutcome.HOLDS, sentence="It holds."),),
        notes=("A note.",),
        claims=(claim(), claim(30.0, None)),
    )


def reproduction(card: int = 1, **fields: object) -> ReproductionRecord:
    verdicts = (
        Verdict(
            claim=claim(),
            kind=VerdictKind.REPRODUCED,
            reason="it lies in the interval",
            measured=20.0,
            difference_points=-0.15,
            interval=Interval(low=17.0, high=23.0),
        ),
        Verdict(claim=claim(30.0, None), kind=VerdictKind.NOT_COMPARABLE, reason="a benchmark is missing"),
    )
    values = {
        "card_id": f"{card:016x}",
        "run_id": None,
        "candidate": f"{HUB_NAME}@1605565b47bb9346c5515c34102e054115b4f98b",
        "verdicts": verdicts,
    }
    return ReproductionRecord.model_validate(values | fields)
