"""What `reproduce` prints: what a card claims, what checking it takes, and the verdicts."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evals.claims.facts import Fact
from evals.claims.records import Claim, Verdict, VerdictKind
from evals.rounding import points_text
from orchestrator.display.format import UNKNOWN
from orchestrator.reproduce import ReproductionPlan
from orchestrator.store.claim_records import ReproductionRecord, counted

_STYLES = {
    VerdictKind.REPRODUCED: "green",
    VerdictKind.NOT_REPRODUCED: "red",
    VerdictKind.NOT_COMPARABLE: "yellow",
    VerdictKind.IMPOSSIBLE: "bold red",
}


def show_reproduction_plan(plan: ReproductionPlan, console: Console) -> None:
    """The claims, what is measured for them, and what that takes."""
    card = plan.card
    title = f"{card.card.name or card.card.source}: {len(card.claims)} claims"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in ("suite", "benchmark", "claimed", "scale", "known of it"):
        table.add_column(column, justify="right" if column == "claimed" else "left")
    told = [_told(claim) for claim in card.claims]
    common = dict(set(told[0].items()).intersection(*(t.items() for t in told))) if told else {}
    for claim, facts in zip(card.claims, told, strict=True):
        own = ", ".join(f"{fact} {value}" for fact, value in facts.items() if fact not in common)
        scale = f"{claim.scale}, unclear" if claim.unclear else claim.scale.value
        cells = (claim.suite or UNKNOWN, claim.title, f"{claim.value:g}", scale, own)
        table.add_row(*cells)
    console.print(table)
    shared = ", ".join(f"{fact} {common[fact]}" for fact in Fact if fact in common)
    lines = [f"Known of all claims: {shared}."] if shared else []
    lines += [f"Measured: {plan.target.found}", plan.sentence]
    if plan.plan is not None:
        lines += [f"Not run here: {m.suite} {m.benchmark}: {m.reason}" for m in plan.plan.missing]
    lines += [f"Problem: {problem}" for problem in plan.problems]
    lines += [f"{check.outcome}: {check.sentence}" for check in plan.checks]
    lines += [f"Note: {note}" for note in plan.notes]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _told(claim: Claim) -> dict[Fact, str]:
    """What is known of how a claim was made, besides what it is of."""
    return {f: v for f, v in claim.facts.known.items() if f not in (Fact.SUITE, Fact.BENCHMARK)}


def show_verdicts(record: ReproductionRecord, console: Console) -> None:
    """Claim by claim: claimed, reproduced, difference, interval, verdict; the reasons below."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "claim", "claimed", "reproduced", "difference", "95 % interval", "verdict"):
        right = column in ("", "claimed", "reproduced", "difference", "95 % interval")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "claim")
    for number, verdict in enumerate(record.verdicts, start=1):
        table.add_row(*_cells(number, verdict))
    console.print(table)
    for number, verdict in enumerate(record.verdicts, start=1):
        console.print(f"  [{number}] {verdict.reason}", markup=False, soft_wrap=True)
    counts = counted(record.verdicts)
    console.print(", ".join(f"{n} {kind}" for kind, n in counts.items() if n), markup=False)


def plan_data(made: ReproductionPlan) -> dict[str, Any]:
    """The plan for scripts."""
    plan = made.plan
    jobs = {} if plan is None else plan.jobs
    return {
        "card": made.card_id,
        "claims": [claim.model_dump(mode="json") for claim in made.card.claims],
        "target": made.target.model_dump(mode="json"),
        "jobs": [{"digest": digest, "kind": job.kind} for digest, job in jobs.items()],
        "missing": [] if plan is None else [m.model_dump(mode="json") for m in plan.missing],
        "cost": made.cost.model_dump(mode="json") if made.cost is not None else None,
        "takes": made.sentence,
        "checks": [check.model_dump(mode="json") for check in made.checks],
        "problems": list(made.problems),
        "notes": list(made.notes),
    }


def _cells(number: int, verdict: Verdict) -> list[str | Text]:
    claim, span = verdict.claim, verdict.interval
    digits = 2 if claim.value != round(claim.value) or claim.rounding_points < 0.5 else 0
    mark = " (forced)" if verdict.forced else ""
    style = _STYLES[verdict.kind]
    return [
        str(number),
        claim.title,
        f"{claim.value:.{digits}f}",
        points_text(verdict.measured) if verdict.measured is not None else "–",
        f"{verdict.difference_points:+z.2f}" if verdict.difference_points is not None else "–",
        f"{points_text(span.low)} … {points_text(span.high)}" if span is not None else "–",
        Text(f"{verdict.kind}{mark}", style),
    ]
