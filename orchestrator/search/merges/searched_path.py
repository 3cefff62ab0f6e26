"""A block of layers that is searched together with the numbers of a merge, and laid over the merge as a layer path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from evals.engine import Frozen
from orchestrator.search.merges.space import SearchParameter, Space, SpaceError, Value, is_searched

BLOCK = "block"
_NAMES = ("block start", "block end")

Block = tuple[int, int]
"""A block [i, j) that is visited twice."""


class SearchedPath(Frozen):
    """The layer path over every merge of a search: one block, whose ends are fixed or searched."""

    block: tuple[int | dict[str, Any], int | dict[str, Any]] = Field(
        description="Start and end of the block [i, j) of the merge's layers that is visited twice, each a whole number or searched: "
        "`[{search: [8, 16]}, {search: [17, 24]}]`. Where the start is not below the end, the merge has no block."
    )

    def space(self) -> Space:
        """The searched ends. Raises SpaceError, with the place below the file's `layer_path`."""
        document = self._document
        nothing = Space(parameters=(), places=(), gradients={})
        space = Space.of(document) if is_searched(document) else nothing
        for place, end in enumerate(document[BLOCK]):
            whole = type(end) is int or _is_whole(space, place)
            if not whole or min(self._limits(space, place)) < 0:
                raise SpaceError(
                    (BLOCK, place),
                    "a layer is a whole number from 0, or searched: {search: [8, 16]} or {choices: [8, 12]}.",
                )
        return space

    def of(self, values: Mapping[str, Value]) -> Block | None:
        """The block with these values; None where it is empty."""
        space = self.space()
        start, end = space.fill(self._document, values)[BLOCK] if space.places else self._document[BLOCK]
        return (int(start), int(end)) if start < end else None

    @property
    def longest(self) -> Block:
        """The longest block; empty if its start is not below its end."""
        space = self.space()
        return min(self._limits(space, 0)), max(self._limits(space, 1))

    @property
    def _document(self) -> dict[str, list[Any]]:
        """The block as a document; searched ends have a name and whole steps."""
        ends: list[Any] = []
        for name, end in zip(_NAMES, self.block, strict=True):
            if isinstance(end, dict):
                step = {"step": 1} if isinstance(end.get("search"), list) else {}
                ends.append({"name": name} | step | end)
            else:
                ends.append(end)
        return {BLOCK: ends}

    def _limits(self, space: Space, place: int) -> tuple[int, int]:
        parameter = _parameter_at(space, place)
        if parameter is None:
            end = self.block[place]
            return (end, end) if isinstance(end, int) else (0, 0)
        if parameter.choices:
            numbers = [int(choice) for choice in parameter.choices]
            return min(numbers), max(numbers)
        low, high = parameter.bounds
        return int(low), int(high)


def _parameter_at(space: Space, place: int) -> SearchParameter | None:
    """The searched parameter of the block's start (0) or end (1)."""
    for filled in space.places:
        if filled.location == (BLOCK, place):
            return next(p for p in space.parameters if p.name == filled.parameters[0])
    return None


def _is_whole(space: Space, place: int) -> bool:
    parameter = _parameter_at(space, place)
    if parameter is None or any(p.is_gradient for p in space.places):
        return False
    return parameter.is_integer or (
        bool(parameter.choices) and all(type(c) is int for c in parameter.choices)
    )


def joined(recipe: Space, path: Space | None) -> Space:
    """The space of a recipe and of the path over it; only the recipe's places are filled. Raises SpaceError."""
    if path is None:
        return recipe
    both = {p.name: p for p in recipe.parameters}
    for parameter in path.parameters:
        if both.setdefault(parameter.name, parameter) != parameter:
            raise SpaceError((BLOCK,), f"the recipe has another {parameter.name!r}; give one another `name`.")
    return recipe.model_copy(update={"parameters": tuple(both.values())})
