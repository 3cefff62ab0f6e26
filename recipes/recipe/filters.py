"""Filters held against the names of real tensors: what they miss, known from headers before a weight is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from recipes.recipe.methods import BasePolicy, Scope
from recipes.recipe.stage import Input, Parameter, Slice, Stage

_LAYER = re.compile(r"\.\d+\.")


def idle_filters(stage: Stage, tensors: Collection[str]) -> tuple[str, ...]:
    """Filters of the stage that no tensor's name contains, so that they do nothing."""
    used = {one.filter for parameter in stage.all_parameters() for one in parameter.conditions if one.filter}
    return tuple(sorted(text for text in used if not any(text in name for name in tensors)))


def missing_value(stage: Stage, tensors: Collection[str]) -> str | None:
    """A sentence about the first tensor for which a parameter that is needed has no value; None where all have one.

    `tensors` are the names in one of the sources; a name stands for its like in every layer and input. Where a
    module has several slices only layers are looked at: which slice gives the rest is the architecture's affair.
    """
    for levels, what, layers_only in _needed(stage):
        names = [name for name in tensors if _LAYER.search(name)] if layers_only else tensors
        bare = next((name for name in names if not any(_decides(level, name) for level in levels)), None)
        if bare is not None:
            return (
                f"The parameter {what} has no value for {bare}: end its list with a value that has no filter."
            )
    return None


def _decides(parameter: Parameter, tensor: str) -> bool:
    """Whether it has a value there; a filter with a digit may be for one layer, which this name does not stand for."""
    filters = [one.filter for one in parameter.conditions]
    return any(text is None or text in tensor or any(sign.isdigit() for sign in text) for text in filters)


def _needed(stage: Stage) -> Iterator[tuple[list[Parameter], str, bool]]:
    """For every parameter without default the levels that may give it, and what to call it."""
    required = [rule for rule in stage.rule.parameters if rule.required]
    for module in stage.modules:
        for group in module.groups():
            shared = (*group.parameters, *module.parameters, *stage.parameters)
            for rule in required:
                for one in _inputs(stage, group) if rule.scope is not Scope.SHARED else [None]:
                    own = (*(one.parameters if one else ()), *shared)
                    whom = f" for {one.model}" if one else ""
                    levels = [parameter for parameter in own if parameter.name == rule.name]
                    yield levels, rule.name + whom, len(module.groups()) > 1


def _inputs(stage: Stage, group: Slice) -> list[Input]:
    base = group.base or stage.base
    return [one for one in group.inputs if stage.rule.base is BasePolicy.IGNORED or one.model != base]
