"""What a card's claims are checked on: its recipe, the checkpoint beside it, or the one that it names."""

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
    """What is measured in place of the card's model."""

    name: str = Field(description="How the tables of the run call it.")
    base: str | None = Field(
        description="The checkpoint itself, or the recipe's first source; null if unknown."
    )
    recipe: str | None = Field(
        default=None, description="Canonical text of the recipe; null for a checkpoint."
    )
    found: str = Field(description="Where it was found, in one sentence.")
    problems: tuple[str, ...] = Field(default=(), description="Why it cannot be measured, one sentence each.")
    notes: tuple[str, ...] = Field(default=(), description="What to know about it, one sentence each.")


def find_target(path: Path, card: Card, text: str, sources: Mapping[str, str]) -> Target:
    """The card's model: mapped by `--source`, built by its recipe, beside the card, or by its name."""
    own = [name for name in (card.checkpoint, card.name) if name]
    mapped = next((sources[name] for name in own if name in sources), None)
    if mapped is not None:
        return Target(name=BASE_NAME, base=mapped, found=f"{own[0]} is {mapped}, as --source says.")
    found = [p for p in find_proposals(text, origin=path.name) if p.recipe is not None]
    if found:
        return _of_proposal(found, card, sources)
    if (path.parent / _CONFIG).is_file():
        folder = str(path.parent.resolve())
        return Target(
            name=BASE_NAME, base=folder, found=f"The card lies in the folder of a checkpoint, {folder}."
        )
    entry = next((e for name in own if (e := find_in_catalog(name)) is not None), None)
    if entry is not None:
        return _of_recipe(entry.recipe, card, sources, f"The catalogue's recipe {entry.name}.")
    return _by_name(own, [name for name in DEMO_NAMES if _names(text, name)])


def _of_proposal(found: list[Proposal], card: Card, sources: Mapping[str, str]) -> Target:
    """The last recipe of the card, as the one that the others lead up to."""
    last = found[-1]
    assert last.recipe is not None
    lines = ", ".join(f"{first}-{end}" for first, end in last.lines)
    made = _of_recipe(last.recipe, card, sources, f"The card's recipe, lines {lines}.")
    unmapped = [str(item) for item in last.to_map if item.name not in sources]
    several = [f"The card holds {len(found)} recipes; this is the last."] if len(found) > 1 else []
    return made.model_copy(
        update={"problems": (*made.problems, *unmapped), "notes": (*several, *last.problems)}
    )


def _of_recipe(recipe: Recipe, card: Card, sources: Mapping[str, str], found: str) -> Target:
    recipe = recipe.with_sources(dict(sources))
    first = recipe.sources[0] if recipe.sources else None
    return Target(
        name=_name(card),
        base=str(first) if first is not None else None,
        recipe=recipe.canonical_text,
        found=found,
        problems=() if first is not None else ("The recipe names no checkpoint to build from.",),
    )


def _by_name(own: list[str], embedded: list[str]) -> Target:
    """A checkpoint by its name: pinned to a commit on the hub, or embedded and named in the card."""
    known = next((name for name in own if name in DEMO_NAMES or "@" in name), None)
    if known is None:
        alike = [
            e for e in embedded if not own or e.rpartition("/")[2] in {n.rpartition("/")[2] for n in own}
        ]
        known = alike[0] if len(alike) == 1 else None
    if known is not None:
        return Target(name=BASE_NAME, base=known, found=f"The checkpoint {known}, which the card is about.")
    who = own[0] if own else "its model"
    wanted = (
        f"--source {own[0]}=REPO@SHA" if own else "a card that names its model, and --source NAME=REPO@SHA"
    )
    problem = f"The card holds no recipe, and {who} is pinned to no revision: say what it is with {wanted}."
    return Target(name=BASE_NAME, base=None, found="Nothing that could be measured.", problems=(problem,))


def _names(text: str, name: str) -> bool:
    """Whether a text has this name, whole."""
    return re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-])", text) is not None


def _name(card: Card) -> str:
    name = (card.name or card.checkpoint or "candidate")[:120]
    return "candidate" if name == BASE_NAME else name
