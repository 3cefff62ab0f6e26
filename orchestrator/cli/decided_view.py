"""What is printed of evaluations that may stop early: decisions after a run, rule and order before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from evals.rounding import points_text
from orchestrator.plan.decide import Evidence, benchmark_ranks
from orchestrator.plan.plan import Plan
from orchestrator.store.sequences import Savings, SequenceRecord

_NOT_A_SCORE = (
    "Early scores are of the documents that were asked, with an interval that is valid at all times; they are no scores of the "
    "benchmarks. `mergeboard resume RUN --whole` completes them and asks nothing twice."
)


def show_decided(
    records: Sequence[SequenceRecord], savings: Savings | None, run_id: str, console: Console
) -> None:
    """The decisions of a run and what they saved; nothing if no evaluation could stop early."""
    if not records:
        return
    console.print(decided_table(records))
    if savings is not None:
        console.print(f"{savings.sentence}.", soft_wrap=True, markup=False)
    if any(record.early for record in records):
        console.print(_NOT_A_SCORE.replace("RUN", run_id), soft_wrap=True, markup=False)
    console.print()


def decided_table(records: Sequence[SequenceRecord]) -> Table:
    """One row for each comparison that was looked at."""
    table = Table(
        title="Decided against the base", title_justify="left", box=None, header_style="bold", pad_edge=False
    )
    table.add_column("Candidate", overflow="fold")
    table.add_column("Benchmark")
    table.add_column("Decision", overflow="fold")
    for name in ("Δ points", "interval", "score"):
        table.add_column(name, justify="right")
    for record in records:
        last, score = record.sequence.last, record.sequence.score
        if last is None:
            table.add_row(record.candidate, record.title, record.sequence.text, "", "", "")
            continue
        span = f"{last.interval.low:+.1f} … {last.interval.high:+.1f}"
        value = f"{points_text(score.value)} " if score is not None else ""
        value = f"{value}early" if record.early else "whole"
        table.add_row(
            record.candidate, record.title, record.sequence.text, f"{last.delta_points:+.1f}", span, value
        )
    return table


def decided_data(records: Sequence[SequenceRecord], savings: Savings | None) -> dict[str, Any]:
    """The same for JSON; empty if no evaluation could stop early."""
    if not records:
        return {}
    return {
        "decided": [
            {
                **record.model_dump(mode="json", exclude={"run_id", "position"}),
                "decision": record.sequence.decision.value,
                "n": record.sequence.n,
                "n_whole": record.sequence.n_whole,
                "text": record.sequence.text,
            }
            for record in records
        ],
        "saved": None if savings is None else {**savings.model_dump(mode="json"), "share": savings.share},
    }


def rule_lines(plan: Plan, evidence: Sequence[Evidence]) -> list[str]:
    """The rule of a plan whose evaluations may stop early, and the order of its benchmarks; empty without one."""
    jobs = [planned.job for planned in plan.evals if planned.job.decide is not None]
    if not jobs or jobs[0].decide is None or plan.sweep.decide is None:
        return []
    looks, entry = jobs[0].decide.plan, plan.sweep.decide
    margin = f", or equivalent within {entry.margin:g} points" if entry.margin else ""
    ranks = benchmark_ranks(evidence, entry.first)
    by_name = {(e.suite, e.benchmark): e for e in evidence}
    order = [by_name[name] for name in sorted(ranks, key=ranks.__getitem__)]
    return [
        f"Stops when it is decided: {len(jobs)} evaluations of candidates, each until it is shown to be better or worse than the base{margin}; "
        f"looks after {looks.first_share:.0%} of the documents and every further {looks.slice_share:.0%}. Error rate "
        f"{entry.error_rate:g} over all of them ({looks.rule.error_rate:.2g} each). The base is asked whole; --whole asks everything.",
        "Order, the cheapest evidence first: " + ", ".join(map(_evidence_text, order)) + ".",
    ]


def _evidence_text(evidence: Evidence) -> str:
    if not evidence.seconds_per_document:
        return evidence.benchmark
    source = "measured" if evidence.measured else "assumed"
    return f"{evidence.benchmark} ({evidence.seconds_per_document:.2g} s a document, standard deviation {evidence.variance**0.5:.0f} points {source})"
