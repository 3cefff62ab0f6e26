"""Build order of the stages of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipes.errors import RecipeSyntaxError
from recipes.recipe.node import quoted
from recipes.recipe.stage import Stage


def ordered_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Stages that the result depends on, in topological order; the last one is the result.

    The result is the stage without a name, or the last one if all have names. Raises RecipeSyntaxError for duplicate
    names and cycles.
    """
    named: dict[str, Stage] = {}
    for stage in stages:
        if stage.name is not None and stage.name in named:
            raise RecipeSyntaxError(f"Two stages are called {quoted(stage.name)}; give each its own name.")
        if stage.name is not None:
            named[stage.name] = stage
    unnamed = [stage for stage in stages if stage.name is None]
    if len(unnamed) > 1:
        raise RecipeSyntaxError(f"{len(unnamed)} stages have no `name`; only one, the result, may lack it.")
    ordered: list[Stage] = []
    _visit((unnamed or stages)[-1], named, (), ordered)
    return tuple(ordered)


def _visit(
    stage: Stage, named: Mapping[str, Stage], parents: tuple[Stage, ...], ordered: list[Stage]
) -> None:
    if any(stage is other for other in ordered):
        return
    if any(stage is other for other in parents):
        chain = " -> ".join(other.name or "the result" for other in (*parents, stage))
        raise RecipeSyntaxError(
            f"The stages depend on each other in a cycle ({chain}); remove one of these references."
        )
    for ref in stage.refs():
        if ref.source.name in named:
            if ref.source.revision:
                raise RecipeSyntaxError(
                    f"{ref.source} is a stage of this recipe, and a stage has no revision."
                )
            _visit(named[ref.source.name], named, (*parents, stage), ordered)
    ordered.append(stage)
