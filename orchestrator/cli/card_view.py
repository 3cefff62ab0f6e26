"""What `plan CARD.md` prints."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from orchestrator.cards.survey import CardPlan, plan_card
from orchestrator.cli.console import wide_console
from orchestrator.cli.preflight_view import show_preflight
from orchestrator.display.format import UNKNOWN
from orchestrator.run.build import parse_source
from orchestrator.settings import Settings


def show_card_plan(path: Path, settings: Settings, *, sources: list[str], as_json: bool) -> None:
    """Claims, recipes, and whether the card's figures fit each other."""
    plan = plan_card(path, settings, dict(parse_source(text) for text in sources))
    if as_json:
        print(json.dumps(plan.model_dump(mode="json"), indent=2))
        return
    console = wide_console()
    console.print(_claims(plan))
    for recipe in plan.recipes:
        console.print(f"\nRecipe {recipe.title} ({recipe.found})", markup=False, soft_wrap=True)
        if recipe.preflight is not None:
            show_preflight(recipe.preflight, console)
        said = recipe.preflight.remarks if recipe.preflight is not None else ()
        for problem in (problem for problem in recipe.problems if problem not in said):
            console.print(f"Problem: {problem}", markup=False, soft_wrap=True)
        for name in recipe.to_map:
            console.print(f"To map with --source NAME=REPO@SHA: {name}", markup=False, soft_wrap=True)
    console.print()
    for check in plan.checks:
        console.print(f"{check.outcome}: {check.sentence}", markup=False, soft_wrap=True)
    for note in plan.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)


def _claims(plan: CardPlan) -> Table:
    title = f"{plan.card.name or plan.card.source}: {len(plan.claims)} claims"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in ("suite", "benchmark", "claimed", "scale", "source"):
        table.add_column(column, justify="right" if column == "claimed" else "left")
    for claim in plan.claims:
        scale = f"{claim.scale}, unclear" if claim.unclear else claim.scale.value
        table.add_row(claim.suite or UNKNOWN, claim.title, f"{claim.value:g}", scale, claim.source)
    return table
