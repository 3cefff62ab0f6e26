"""Reads parameters (numbers, gradients, filters) with the semantics of mergekit."""

from __future__ import annotations

import difflib

from recipes.recipe.methods import Kind, Method, ParameterRule, Scope
from recipes.recipe.node import Node, quoted
from recipes.recipe.stage import Condition, Parameter, Scalar

MAX_PARAMETERS = 64
MAX_CONDITIONS = 4096
MAX_GRADIENT = 4096


def read_parameters(
    node: Node, method: Method, *, of_input: bool = False, of_base: bool = False
) -> tuple[Parameter, ...]:
    """Read the parameters under a `parameters:` key; record a remark for each one that the method does not use there."""
    if node.value is None:
        return ()
    if len(node.mapping()) > MAX_PARAMETERS:
        node.refuse(f"{len(node.value):,} parameters; at most {MAX_PARAMETERS} are read.")
    parameters = []
    for name in node.value:
        child = node.child(name)
        rule = method.rule(name)
        reason = _why_unused(name, rule, method, of_input=of_input, of_base=of_base)
        if reason or rule is None:
            child.remark(reason)
            _check_shape(child)
            continue
        conditions = _read_conditions(child, rule)
        if conditions:
            parameters.append(Parameter(name=name, conditions=conditions))
    return tuple(sorted(parameters, key=lambda parameter: parameter.name))


def _why_unused(
    name: str, rule: ParameterRule | None, method: Method, *, of_input: bool, of_base: bool
) -> str:
    if rule is None:
        matches = difflib.get_close_matches(name, [r.name for r in method.parameters], n=1, cutoff=0.75)
        hint = f"; did you mean {matches[0]}?" if matches else "."
        return f"{method.name} never reads {quoted(name)}{hint}"
    if of_input and rule.scope is Scope.SHARED:
        return f"{method.name} reads {name} for the slice or the document as a whole, never for one input; move it there."
    if of_base and rule.scope is Scope.NON_BASE:
        return f"{method.name} never reads the {name} of the base model; remove it."
    return ""


def _check_shape(node: Node) -> None:
    """Refuse a value of an invalid shape, as mergekit does even for unused parameters."""
    value = node.value
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, dict | bool | int | float | str) for entry in entries):
        node.refuse("a value, a list of values, or entries with `filter` and `value` are expected here.")


def _read_conditions(node: Node, rule: ParameterRule) -> tuple[Condition, ...]:
    """Conditions up to the first one without a filter; later ones are never reached."""
    if isinstance(node.value, list) and any(isinstance(entry, dict) for entry in node.value):
        entries = list(node.items(MAX_CONDITIONS))
        if not all(isinstance(entry.value, dict) for entry in entries):
            node.refuse(
                "the list mixes plain values with entries that have a `filter`; give every value its own entry."
            )
    elif isinstance(node.value, dict):
        entries = [node]
    elif node.value == []:
        node.remark("an empty list sets nothing; remove it.")
        return ()
    else:
        return (Condition(value=_read_value(node, rule)),)
    conditions: list[Condition] = []
    for entry in entries:
        if conditions and conditions[-1].filter is None:
            entry.remark(
                "never reached: the entry before it holds for every tensor; move that one to the end."
            )
            continue
        conditions.append(_read_condition(entry, rule))
    return tuple(conditions)


def _read_condition(node: Node, rule: ParameterRule) -> Condition:
    node.check_keys({"filter", "value"})
    if "value" not in node.value:
        node.refuse("an entry with a `filter` needs a `value` beside it.")
    pattern = node.child("filter")
    filter_ = None if pattern.value is None else pattern.text()
    if node.child("value").value == []:
        node.refuse("an empty list as value sets nothing; remove the entry.")
    return Condition(
        filter=None if filter_ in ("", "*") else filter_, value=_read_value(node.child("value"), rule)
    )


def _read_value(node: Node, rule: ParameterRule) -> Scalar | tuple[Scalar, ...]:
    if not isinstance(node.value, list):
        return _read_scalar(node, rule)
    values = tuple(_read_scalar(entry, rule) for entry in node.items(MAX_GRADIENT))
    return values[0] if len(values) == 1 else values


def _read_scalar(node: Node, rule: ParameterRule) -> Scalar:
    if isinstance(node.value, dict | list):
        node.refuse("one value is expected here; a gradient is a flat list of numbers.")
    if rule.kind is Kind.BOOL:
        return node.boolean()
    return node.integer() if rule.kind is Kind.INT else node.number()
