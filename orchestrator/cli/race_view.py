"""What is printed of a race of candidates: its rule before a run, who left where and what was saved after it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from evals.stats.candidate_race import CandidateRace
from orchestrator.plan.candidate_race import race_rule, racing_names
from orchestrator.plan.plan import Plan

_NOT_A_SCORE = (
    "Values are differences to the base on the documents asked until then, averaged over the benchmarks without the floor at their lower "
    "bounds; they are no scores. Candidates that left count in the correction. `mergeboard resume RUN --whole` asks everything and nothing twice."
)


def show_candidate_race(race: CandidateRace | None, run_id: str, console: Console) -> None:
    """The looks of a race and who left; nothing without one."""
    if race is None:
        return
    console.print(look_table(race))
    console.print()
    if race.left:
        console.print(left_table(race))
    console.print(f"{race.sentence}. Error rate {race.rule.error_rate:g}.", soft_wrap=True, markup=False)
    console.print(_NOT_A_SCORE.replace("RUN", run_id), soft_wrap=True, markup=False)
    console.print()


def look_table(race: CandidateRace) -> Table:
    """One row for each look: documents, and how many candidates were asked, left and went on."""
    table = _table(f"The race: who can still be among the best {race.rule.keep}")
    for name in ("documents", "candidates", "left", "went on", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for look in race.looks:
        counts = (len(look.candidates), len(look.left), len(look.kept), len(look.failed))
        table.add_row(f"{look.n:,} of {look.n_whole:,}", *(f"{count:,}" for count in counts))
    return table


def left_table(race: CandidateRace) -> Table:
    """One row for each candidate that left: after how many documents, and what was known."""
    table = _table("Left the race")
    table.add_column("Candidate", overflow="fold")
    for name in ("after", "Δ points early", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for candidate, look in race.left:
        table.add_row(
            candidate.name,
            f"{look.n:,} of {look.n_whole:,}",
            f"{candidate.value:+z.1f}",
            f"{candidate.low:+z.1f} … {candidate.high:+z.1f}",
        )
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)


def candidate_race_data(race: CandidateRace | None) -> dict[str, Any]:
    """The same for JSON; empty without a race."""
    if race is None:
        return {}
    data = race.model_dump(mode="json")
    return {
        "race": {**data, "left": [c.name for c, _ in race.left], "asked": race.asked, "whole": race.whole}
    }


def race_lines(plan: Plan) -> list[str]:
    """The rule of a plan whose candidates race; empty for any other plan."""
    rule = race_rule(plan)
    if rule is None:
        return []
    n = len(racing_names(plan))
    shares = ", ".join(f"{share:.0%}" for share in rule.shares)
    return [
        f"Race: {n:,} candidates are asked {shares} of each benchmark's documents; after each part those leave that cannot be among the best "
        f"{rule.keep} by the average of the benchmarks any more. The probability that any of these leaves is at most {rule.error_rate:g}, over all "
        "candidates and looks. The base is asked whole, and so is who is left; --whole asks everything. The figures here are without what it saves."
    ]
