"""What mergekit would refuse only after loading, checked on the document alone."""

from __future__ import annotations

from recipes.layer_path import MAX_VISITS
from recipes.recipe.methods import BasePolicy, Method, ParameterRule, Scope
from recipes.recipe.node import Node
from recipes.recipe.refs import ModelRef
from recipes.recipe.stage import Input, Module, Parameter, Slice, Stage

Settings = tuple[Parameter, ...]


def check_module(node: Node, module: Module, stage: Stage) -> None:
    """Refuse inputs that the method does not take and parameters that it misses."""
    for index, group in enumerate(module.groups()):
        place = node.child(index) if module.slices else node
        base = group.base or stage.base
        inputs = group.inputs
        if module.models and base and all(one.model != base for one in inputs):
            inputs = (*inputs, Input(model=base))  # as mergekit does
        _check_inputs(place, [one.model for one in inputs], base, stage.rule)
        _check_lengths(place, group)
        shared = (group.parameters, module.parameters, stage.parameters)
        for rule in stage.rule.parameters:
            if rule.scope is Scope.SHARED:
                _check_given(place, rule, shared, "")
        for one in inputs:
            _check_input(place, one, base, shared, stage.rule)
        _check_values(place, inputs, base, shared, stage.rule)
    total = sum(group.n_layers for group in module.slices)
    if module.slices and not 1 <= total <= MAX_VISITS:
        node.refuse(f"the slices add up to {total:,} layers; 1 to {MAX_VISITS:,} are built.")
    _remark_on_empty(node, module)


def _check_inputs(node: Node, models: list[ModelRef], base: ModelRef | None, method: Method) -> None:
    twice = next((model for model in models if models.count(model) > 1), None)
    if twice is not None:
        node.refuse(f"{twice} is merged with itself: each checkpoint may be an input once.")
    if method.base is BasePolicy.IGNORED:
        base = None
    if base is None and method.base is BasePolicy.REQUIRED:
        node.refuse(f"{method.name} needs `base_model`, one of its inputs.")
    if base is not None and base not in models:
        node.refuse(f"the base model {base} has to be among the inputs here, with its own range of layers.")
    others = len(models) - (1 if base is not None else 0)
    _check_count(node, len(models), method.min_inputs, method.max_inputs, method, "inputs, the base included")
    _check_count(node, others, method.min_non_base, method.max_non_base, method, "inputs besides the base")


def _check_count(node: Node, count: int, least: int, most: int | None, method: Method, what: str) -> None:
    if least <= count <= (count if most is None else most):
        return
    wanted = f"at least {least}" if most is None else f"{least}" if least == most else f"{least} to {most}"
    node.refuse(f"{method.name} takes {wanted} {what}; there are {count}.")


def _check_lengths(node: Node, group: Slice) -> None:
    lengths = {one.layers[1] - one.layers[0] for one in group.inputs if one.layers}
    if len(lengths) > 1:
        node.refuse(
            f"the sources of a slice need ranges of equal length; these have {_listed(lengths)} layers."
        )


def _listed(numbers: set[int]) -> str:
    return " and ".join(str(number) for number in sorted(numbers))


def _check_input(
    node: Node, one: Input, base: ModelRef | None, shared: tuple[Settings, ...], method: Method
) -> None:
    for rule in method.parameters:
        if rule.scope is Scope.INPUT or (rule.scope is Scope.NON_BASE and one.model != base):
            _check_given(node, rule, (one.parameters, *shared), f" for {one.model}")


def _check_given(node: Node, rule: ParameterRule, levels: tuple[Settings, ...], whom: str) -> None:
    if not rule.required:
        return
    found = [parameter for level in levels for parameter in level if parameter.name == rule.name]
    if not found:
        node.refuse(f"the parameter {rule.name} is missing{whom}: give it under `parameters:`.")
    if not any(parameter.is_complete for parameter in found):
        node.remark(
            f"{rule.name}{whom} is given for some tensors only; if any tensor matches no filter, mergekit stops: "
            "end the list with a value that has no filter."
        )


def resolved(name: str, levels: tuple[Settings, ...]) -> Parameter | None:
    """The parameter that decides, if one level alone does."""
    return next((parameter for level in levels for parameter in level if parameter.name == name), None)


def _constant(rule: ParameterRule, levels: tuple[Settings, ...]) -> float | None:
    parameter = resolved(rule.name, levels)
    value = parameter.constant if parameter else rule.default
    return None if value is None else float(value)


def _check_values(
    node: Node, inputs: tuple[Input, ...], base: ModelRef | None, shared: tuple[Settings, ...], method: Method
) -> None:
    """Values that are known now and that end in an error, or in NaN, only when tensors are merged."""
    rules = {rule.name: rule for rule in method.parameters}
    others = [one for one in inputs if one.model != base or method.base is BasePolicy.IGNORED]
    if "epsilon" in rules and "density" in rules:
        for one in others:
            density, epsilon = (
                _constant(rules[name], (one.parameters, *shared)) for name in ("density", "epsilon")
            )
            if density is None or epsilon is None or not 0 < density < 1:
                continue
            if density + epsilon >= 1 or density - epsilon <= 0:
                node.refuse(f"{method.name} needs density - epsilon > 0 and density + epsilon < 1; {one.model} has "
                            f"density {density:g} and epsilon {epsilon:g}.")  # fmt: skip
    if method.random and "density" in rules:
        for one in others:
            density = _constant(rules["density"], (one.parameters, *shared))
            if density is not None and density < 0:
                node.refuse(
                    f"the density {density:g} of {one.model} is below 0; it is a share between 0 and 1."
                )
    if "normalize" in rules and "weight" in rules and method.base is BasePolicy.IGNORED:
        weights = [_constant(rules["weight"], (one.parameters, *shared)) for one in others]
        normalize = resolved("normalize", shared)
        known = [weight for weight in weights if weight is not None]
        if len(known) == len(weights) and sum(known) == 0 and (normalize is None or normalize.constant):
            node.refuse(
                f"the weights of {method.name} add up to 0, and dividing by 0 would leave no numbers at all."
            )


def _remark_on_empty(node: Node, module: Module) -> None:
    for index, group in enumerate(module.slices):
        if group.n_layers == 0 and 0 < index < len(module.slices) - 1:
            node.child(index).remark("the slice has no layers and changes nothing; remove it.")
