"""Checks of a document for errors that mergekit reports only after loading tensors."""

from __future__ import annotations

from recipes.layer_path_text import MAX_VISITS
from recipes.recipe.methods import BasePolicy, Method, ParameterRule, Scope
from recipes.recipe.node import Node
from recipes.recipe.refs import ModelRef
from recipes.recipe.stage import Input, Module, Parameter, Slice, Stage

Settings = tuple[Parameter, ...]


def check_module(node: Node, module: Module, stage: Stage) -> None:
    """Refuse inputs that the method does not accept, and missing parameters."""
    for index, group in enumerate(module.groups()):
        group_node = node.child(index) if module.slices else node
        base = group.base or stage.base
        inputs = group.inputs
        if module.models and base and all(input_.model != base for input_ in inputs):
            inputs = (*inputs, Input(model=base))  # as mergekit does
        _check_inputs(group_node, [input_.model for input_ in inputs], base, stage.method_spec)
        _check_lengths(group_node, group)
        shared = (group.parameters, module.parameters, stage.parameters)
        for rule in stage.method_spec.parameters:
            if rule.scope is Scope.SHARED:
                _check_required(group_node, rule, shared, "")
        for input_ in inputs:
            _check_input(group_node, input_, base, shared, stage.method_spec)
        _check_values(group_node, inputs, base, shared, stage.method_spec)
    total = sum(group.n_layers for group in module.slices)
    if module.slices and not 1 <= total <= MAX_VISITS:
        node.refuse(f"the slices add up to {total:,} layers; 1 to {MAX_VISITS:,} are built.")
    _remark_empty_slices(node, module)


def _check_inputs(node: Node, models: list[ModelRef], base: ModelRef | None, method: Method) -> None:
    duplicate = next((model for model in models if models.count(model) > 1), None)
    if duplicate is not None:
        node.refuse(
            f"{duplicate} is merged with itself in different layers: each checkpoint may be an input once, and older versions of mergekit "
            "differ on which layers count."
        )
    if method.base is BasePolicy.IGNORED:
        base = None
    if base is None and method.base is BasePolicy.REQUIRED:
        node.refuse(f"{method.name} needs `base_model`, one of its inputs.")
    if base is not None and base not in models:
        node.refuse(f"the base model {base} must be one of the inputs here, with its own range of layers.")
    non_base = len(models) - (1 if base is not None else 0)
    _check_count(node, len(models), method.min_inputs, method.max_inputs, method, "inputs, the base included")
    _check_count(node, non_base, method.min_non_base, method.max_non_base, method, "inputs besides the base")


def _check_count(
    node: Node, count: int, minimum: int, maximum: int | None, method: Method, what: str
) -> None:
    if minimum <= count <= (count if maximum is None else maximum):
        return
    expected = (
        f"at least {minimum}"
        if maximum is None
        else f"{minimum}"
        if minimum == maximum
        else f"{minimum} to {maximum}"
    )
    node.refuse(f"{method.name} takes {expected} {what}; there are {count}.")


def _check_lengths(node: Node, group: Slice) -> None:
    lengths = {input_.layers[1] - input_.layers[0] for input_ in group.inputs if input_.layers}
    if len(lengths) > 1:
        node.refuse(
            f"the sources of a slice need ranges of equal length; these have {_join_numbers(lengths)} layers."
        )


def _join_numbers(numbers: set[int]) -> str:
    return " and ".join(str(number) for number in sorted(numbers))


def _check_input(
    node: Node, input_: Input, base: ModelRef | None, shared: tuple[Settings, ...], method: Method
) -> None:
    for rule in method.parameters:
        if rule.scope is Scope.INPUT or (rule.scope is Scope.NON_BASE and input_.model != base):
            _check_required(node, rule, (input_.parameters, *shared), f" for {input_.model}")


def _check_required(node: Node, rule: ParameterRule, levels: tuple[Settings, ...], whom: str) -> None:
    if not rule.required:
        return
    parameters = [parameter for level in levels for parameter in level if parameter.name == rule.name]
    if not parameters:
        node.refuse(f"the parameter {rule.name} is missing{whom}: give it under `parameters:`.")
    if not any(parameter.is_complete for parameter in parameters):
        node.remark(
            f"{rule.name}{whom} is given for some tensors only; if any tensor matches no filter, mergekit stops: "
            "end the list with a value that has no filter."
        )


def effective_parameter(name: str, levels: tuple[Settings, ...]) -> Parameter | None:
    """The parameter of the first level that sets it, or None."""
    return next((parameter for level in levels for parameter in level if parameter.name == name), None)


def _constant_value(rule: ParameterRule, levels: tuple[Settings, ...]) -> float | None:
    parameter = effective_parameter(rule.name, levels)
    value = parameter.constant if parameter else rule.default
    return None if value is None else float(value)


def _check_values(
    node: Node, inputs: tuple[Input, ...], base: ModelRef | None, shared: tuple[Settings, ...], method: Method
) -> None:
    """Refuse constant values that cause an error or NaN when tensors are merged."""
    rules = {rule.name: rule for rule in method.parameters}
    non_base = [input_ for input_ in inputs if input_.model != base or method.base is BasePolicy.IGNORED]
    if "epsilon" in rules and "density" in rules:
        for input_ in non_base:
            density, epsilon = (
                _constant_value(rules[name], (input_.parameters, *shared)) for name in ("density", "epsilon")
            )
            if density is None or epsilon is None or not 0 < density < 1:
                continue
            if density + epsilon >= 1 or density - epsilon <= 0:
                node.refuse(f"{method.name} needs density - epsilon > 0 and density + epsilon < 1; {input_.model} has "
                            f"density {density:g} and epsilon {epsilon:g}.")  # fmt: skip
    if method.random and "density" in rules:
        for input_ in non_base:
            density = _constant_value(rules["density"], (input_.parameters, *shared))
            if density is not None and density < 0:
                node.refuse(
                    f"the density {density:g} of {input_.model} is below 0; it is a share between 0 and 1."
                )
    if "normalize" in rules and "weight" in rules and method.base is BasePolicy.IGNORED:
        weights = [_constant_value(rules["weight"], (input_.parameters, *shared)) for input_ in non_base]
        normalize = effective_parameter("normalize", shared)
        constants = [weight for weight in weights if weight is not None]
        if (
            len(constants) == len(weights)
            and sum(constants) == 0
            and (normalize is None or normalize.constant)
        ):
            node.refuse(f"the weights of {method.name} add up to 0: normalizing them divides by 0.")


def _remark_empty_slices(node: Node, module: Module) -> None:
    for index, group in enumerate(module.slices):
        if group.n_layers == 0 and 0 < index < len(module.slices) - 1:
            node.child(index).remark("the slice has no layers and changes nothing; remove it.")
