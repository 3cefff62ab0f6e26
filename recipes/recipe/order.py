"""The order in which the stages of a recipe are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipes.errors import RecipeSyntaxError
from recipes.recipe.node import quoted
from recipes.recipe.stage import Stage


def ordered_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that the result needs, each after those that it uses; the last is the result.

    The result is the stage without a name, or the last one where all have names.
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
    done: list[Stage] = []
    _visit((unnamed or stages)[-1], named, (), done)
    return tuple(done)


def _visit(stage: Stage, named: Mapping[str, Stage], above: tuple[Stage, ...], done: list[Stage]) -> None:
    if any(stage is one for one in done):
        return
    if any(stage is one for one in above):
        chain = " -> ".join(one.name or "the result" for one in (*above, stage))
        raise RecipeSyntaxError(f"The stages need each other in a circle ({chain}); no order builds them.")
    for ref in stage.refs():
        if ref.source.name in named:
            if ref.source.revision:
                raise RecipeSyntaxError(
                    f"{ref.source} is a stage of this recipe, and a stage has no revision."
                )
            _visit(named[ref.source.name], named, (*above, stage), done)
    done.append(stage)
