"""Examine a model card before anything runs: claims, recipes and checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from evals.claims.arithmetic import RecipeSize
from evals.claims.records import CardCheck, Claim
from evals.engine import Frozen
from orchestrator.cards import Card, card_checks, card_claims, read_card
from orchestrator.cards.read import read_bytes, repository_of
from orchestrator.cards.recipe_checks import check_recipe
from orchestrator.settings import Settings
from recipes.catalog import load_catalog
from recipes.errors import RecipeError
from recipes.extract import Proposal, find_catalog_names, find_proposals
from recipes.preflight import Preflight, preflight
from recipes.recipe import Recipe


class RecipeInCard(Frozen):
    """A recipe in a card, or the catalogue's recipe for it."""

    title: str = Field(description="Title of the recipe.")
    found: str = Field(description="Where it was found: lines of the card, or the catalogue.")
    problems: tuple[str, ...] = Field(description="Problems of the recipe, one sentence each.")
    to_map: tuple[str, ...] = Field(description="Names to map before it can be built, each with its meaning.")
    preflight: Preflight | None = Field(
        description="Its result and cost; null if it is not a complete recipe."
    )


class CardPlan(Frozen):
    """What is known about a card before anything runs."""

    card: Card = Field(description="The parsed card.")
    claims: tuple[Claim, ...] = Field(description="The card's claims about its model.")
    recipes: tuple[RecipeInCard, ...] = Field(description="The card's recipes, or the catalogue's for it.")
    checks: tuple[CardCheck, ...] = Field(
        description="Checks of its arithmetic, its sizes and published rows."
    )
    notes: tuple[str, ...] = Field(description="Remarks, one sentence each.")


def plan_card(path: Path, settings: Settings, sources: dict[str, str]) -> CardPlan:
    """Read a card with its recipes, claims and checks. Raises CardError if it is not a card."""
    data = read_bytes(path)
    card = read_card(data, path.name, repository=repository_of(path))
    text = data.decode("utf-8", errors="replace")
    proposals = find_proposals(text, origin=path.name)
    recipes = [_of_proposal(p, settings, sources) for p in proposals]
    layers = _depths(recipes)
    of_recipes = [c for p in proposals for c in check_recipe(p, layers)]
    notes = []
    if not recipes:
        names = find_catalog_names(text)
        recipes = [_of_catalogue(name, settings, sources) for name in names]
        offered = (
            f"the catalogue has {', '.join(names)} for it"
            if names
            else "the catalogue has none for it either"
        )
        notes.append(f"{path.name} holds no recipe; {offered}.")
    sizes = [size for recipe in recipes if (size := _size(recipe)) is not None]
    return CardPlan(
        card=card,
        claims=card_claims(card),
        recipes=tuple(recipes),
        checks=(*card_checks(card, sizes[-1] if sizes else None), *of_recipes),
        notes=tuple(notes),
    )


def _of_proposal(proposal: Proposal, settings: Settings, sources: dict[str, str]) -> RecipeInCard:
    lines = ", ".join(f"{first}-{last}" for first, last in proposal.lines)
    result, problems = None, list(proposal.problems)
    if proposal.recipe is not None:
        result, recipe_problems = _preflight(proposal.recipe, settings, sources)
        problems += recipe_problems
    return RecipeInCard(
        title=proposal.title or "recipe",
        found=f"lines {lines}",
        problems=tuple(dict.fromkeys(problems)),
        to_map=tuple(str(item) for item in proposal.to_map),
        preflight=result,
    )


def _of_catalogue(name: str, settings: Settings, sources: dict[str, str]) -> RecipeInCard:
    entry = load_catalog(name)
    result, problems = _preflight(entry.recipe, settings, sources)
    return RecipeInCard(
        title=entry.title, found=f"catalogue, {name}", problems=tuple(problems), to_map=(), preflight=result
    )


def _preflight(
    recipe: Recipe, settings: Settings, sources: dict[str, str]
) -> tuple[Preflight | None, list[str]]:
    try:
        return preflight(recipe.with_sources(sources), home=settings.home), []
    except RecipeError as error:
        return None, [str(error)]


def _depths(recipes: Sequence[RecipeInCard]) -> dict[str, int]:
    """The number of layers of each source whose config is known."""
    return {
        source.name: source.facts.config.n_layers
        for recipe in recipes
        if recipe.preflight is not None
        for source in recipe.preflight.sources
        if source.facts is not None and source.facts.config.n_layers
    }


def _size(recipe: RecipeInCard) -> RecipeSize | None:
    """Layers and parameters of the recipe's result; None if one is unknown."""
    checked = recipe.preflight
    if checked is None or not checked.stages or not checked.layer_parameters:
        return None
    last = checked.stages[-1]
    if last.n_layers is None or last.parameters is None:
        return None
    return RecipeSize(
        name=recipe.title,
        layers=last.n_layers,
        parameters=last.parameters,
        parameters_per_layer=checked.layer_parameters,
    )
