"""Find what to measure for a card: its recipe, the checkpoint beside it, or the one that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.cards import Card
from orchestrator.plan.candidates import BASE_NAME
from recipes.catalog import find_in_catalog
from recipes.demo import DEMO_NAMES
from recipes.extract import Proposal, find_proposals
from recipes.recipe import Recipe

_CONFIG = "config.json"


class Target(Frozen):
    """The candidate that is measured for the card's model."""

    name: str = Field(description="Name of the candidate in the run.")
    base: str | None = Field(
        description="The checkpoint itself, or the recipe's first source; null if unknown."
    )
    recipe: str | None = Field(
        default=None, description="Canonical text of the recipe; null for a checkpoint."
    )
    found: str = Field(description="How the target was determined, in one sentence.")
    problems: tuple[str, ...] = Field(default=(), description="Why it cannot be measured, one sentence each.")
    notes: tuple[str, ...] = Field(default=(), description="Remarks, one sentence each.")


def find_target(path: Path, card: Card, text: str, sources: Mapping[str, str]) -> Target:
    """The card's model: mapped by `--source`, built by its recipe, beside the card, or by its name."""
    names = [name for name in (card.checkpoint, card.name) if name]
    mapped = next((sources[name] for name in names if name in sources), None)
    if mapped is not None:
        return Target(name=BASE_NAME, base=mapped, found=f"{names[0]} is {mapped}, as --source says.")
    proposals = [p for p in find_proposals(text, origin=path.name) if p.recipe is not None]
    if proposals:
        return _of_proposal(proposals, card, sources)
    if (path.parent / _CONFIG).is_file():
        folder = str(path.parent.resolve())
        return Target(
            name=BASE_NAME, base=folder, found=f"The card lies in the folder of a checkpoint, {folder}."
        )
    entry = next((e for name in names if (e := find_in_catalog(name)) is not None), None)
    if entry is not None:
        return _of_recipe(entry.recipe, card, sources, f"The catalogue's recipe {entry.name}.")
    return _by_name(names, [name for name in DEMO_NAMES if _names(text, name)])


def _of_proposal(proposals: list[Proposal], card: Card, sources: Mapping[str, str]) -> Target:
    """The last recipe of the card; earlier ones are its intermediate steps."""
    last = proposals[-1]
    assert last.recipe is not None
    lines = ", ".join(f"{first}-{end}" for first, end in last.lines)
    target = _of_recipe(last.recipe, card, sources, f"The card's recipe, lines {lines}.")
    unmapped = [str(item) for item in last.to_map if item.name not in sources]
    notes = [f"The card holds {len(proposals)} recipes; this is the last."] if len(proposals) > 1 else []
    return target.model_copy(
        update={"problems": (*target.problems, *unmapped), "notes": (*notes, *last.problems)}
    )


def _of_recipe(recipe: Recipe, card: Card, sources: Mapping[str, str], how: str) -> Target:
    recipe = recipe.with_sources(dict(sources))
    first = recipe.sources[0] if recipe.sources else None
    return Target(
        name=_name(card),
        base=str(first) if first is not None else None,
        recipe=recipe.canonical_text,
        found=how,
        problems=() if first is not None else ("The recipe names no checkpoint to build from.",),
    )


def _by_name(names: list[str], embedded: list[str]) -> Target:
    """A checkpoint by its name: pinned to a commit on the hub, or embedded and named in the card."""
    match = next((name for name in names if name in DEMO_NAMES or "@" in name), None)
    if match is None:
        same_name = [
            e for e in embedded if not names or e.rpartition("/")[2] in {n.rpartition("/")[2] for n in names}
        ]
        match = same_name[0] if len(same_name) == 1 else None
    if match is not None:
        return Target(name=BASE_NAME, base=match, found=f"The checkpoint {match}, which the card is about.")
    subject = names[0] if names else "its model"
    needed = (
        f"--source {names[0]}=REPO@SHA"
        if names
        else "a card that names its model, and --source NAME=REPO@SHA"
    )
    problem = (
        f"The card holds no recipe, and {subject} is pinned to no revision: say what it is with {needed}."
    )
    return Target(name=BASE_NAME, base=None, found="Nothing that could be measured.", problems=(problem,))


def _names(text: str, name: str) -> bool:
    """Whether a text contains this name as a whole word."""
    return re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-])", text) is not None


def _name(card: Card) -> str:
    name = (card.name or card.checkpoint or "candidate")[:120]
    return "candidate" if name == BASE_NAME else name
