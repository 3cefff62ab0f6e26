"""Compares filters with the names of real tensors, known from headers before weights are loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from recipes.recipe.methods import BasePolicy, Scope
from recipes.recipe.stage import Input, Parameter, Slice, Stage

_LAYER = re.compile(r"\.\d+\.")


def unused_filters(stage: Stage, tensors: Collection[str]) -> tuple[str, ...]:
    """Filters of the stage that match no tensor."""
    filters = {
        condition.filter
        for parameter in stage.all_parameters()
        for condition in parameter.conditions
        if condition.filter
    }
    return tuple(sorted(text for text in filters if not any(text in name for name in tensors)))


def find_missing_value(stage: Stage, tensors: Collection[str]) -> str | None:
    """Error text for the first tensor without a value of a required parameter; None if there is none.

    `tensors` are the tensor names of one source; each represents the same tensor in all layers and inputs. If a module
    has several slices, only layer tensors are checked, because the architecture determines which slice gives the others.
    """
    for levels, title, layers_only in _required_settings(stage):
        names = [name for name in tensors if _LAYER.search(name)] if layers_only else tensors
        tensor = next((name for name in names if not any(_has_value(level, name) for level in levels)), None)
        if tensor is not None:
            return f"The parameter {title} has no value for {tensor}: end its list with a value that has no filter."
    return None


def _has_value(parameter: Parameter, tensor: str) -> bool:
    """Whether the parameter has a value for the tensor; a filter with a digit may name another layer and counts as a value."""
    filters = [condition.filter for condition in parameter.conditions]
    return any(
        text is None or text in tensor or any(character.isdigit() for character in text) for text in filters
    )


def _required_settings(stage: Stage) -> Iterator[tuple[list[Parameter], str, bool]]:
    """For every required parameter: the settings at all levels, its name for messages, and whether only layers count."""
    required = [rule for rule in stage.method_spec.parameters if rule.required]
    for module in stage.modules:
        for group in module.groups():
            shared = (*group.parameters, *module.parameters, *stage.parameters)
            for rule in required:
                for input_ in (
                    _inputs_with_settings(stage, group) if rule.scope is not Scope.SHARED else [None]
                ):
                    settings = (*(input_.parameters if input_ else ()), *shared)
                    suffix = f" for {input_.model}" if input_ else ""
                    levels = [parameter for parameter in settings if parameter.name == rule.name]
                    yield levels, rule.name + suffix, len(module.groups()) > 1


def _inputs_with_settings(stage: Stage, group: Slice) -> list[Input]:
    base = group.base or stage.base
    return [
        input_
        for input_ in group.inputs
        if stage.method_spec.base is BasePolicy.IGNORED or input_.model != base
    ]
