"""Parameters: numbers, gradients and filters, read as mergekit reads them."""

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
    """The parameters under a `parameters:` key that the method reads there; the others are remarked on."""
    if node.value is None:
        return ()
    if len(node.mapping()) > MAX_PARAMETERS:
        node.refuse(f"{len(node.value):,} parameters; at most {MAX_PARAMETERS} are read.")
    found = []
    for name in node.value:
        child = node.child(name)
        rule = method.rule(name)
        unread = _why_unread(name, rule, method, of_input=of_input, of_base=of_base)
        if unread or rule is None:
            child.remark(unread)
            _check_shape(child)
            continue
        conditions = _conditions(child, rule)
        if conditions:
            found.append(Parameter(name=name, conditions=conditions))
    return tuple(sorted(found, key=lambda parameter: parameter.name))


def _why_unread(
    name: str, rule: ParameterRule | None, method: Method, *, of_input: bool, of_base: bool
) -> str:
    if rule is None:
        near = difflib.get_close_matches(name, [r.name for r in method.parameters], n=1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else "."
        return f"{method.name} never reads {quoted(name)}{hint}"
    if of_input and rule.scope is Scope.SHARED:
        return f"{method.name} reads {name} for the slice or the document as a whole, never for one input; move it there."
    if of_base and rule.scope is Scope.NON_BASE:
        return f"{method.name} never reads the {name} of the base model; remove it."
    return ""


def _check_shape(node: Node) -> None:
    """mergekit refuses a value of no possible shape even where nothing reads it."""
    value = node.value
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, dict | bool | int | float | str) for entry in entries):
        node.refuse("a value, a list of values, or entries with `filter` and `value` are expected here.")


def _conditions(node: Node, rule: ParameterRule) -> tuple[Condition, ...]:
    """All conditions up to the first that holds for every tensor; those after it are never reached."""
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
        return (Condition(value=_value(node, rule)),)
    found: list[Condition] = []
    for entry in entries:
        if found and found[-1].filter is None:
            entry.remark(
                "never reached: the entry before it holds for every tensor; move that one to the end."
            )
            continue
        found.append(_condition(entry, rule))
    return tuple(found)


def _condition(node: Node, rule: ParameterRule) -> Condition:
    node.known({"filter", "value"})
    if "value" not in node.value:
        node.refuse("an entry with a `filter` needs a `value` beside it.")
    pattern = node.child("filter")
    filter_ = None if pattern.value is None else pattern.text()
    if node.child("value").value == []:
        node.refuse("an empty list as value sets nothing; remove the entry.")
    return Condition(
        filter=None if filter_ in ("", "*") else filter_, value=_value(node.child("value"), rule)
    )


def _value(node: Node, rule: ParameterRule) -> Scalar | tuple[Scalar, ...]:
    if not isinstance(node.value, list):
        return _scalar(node, rule)
    values = tuple(_scalar(entry, rule) for entry in node.items(MAX_GRADIENT))
    return values[0] if len(values) == 1 else values


def _scalar(node: Node, rule: ParameterRule) -> Scalar:
    if isinstance(node.value, dict | list):
        node.refuse("one value is expected here; a gradient is a flat list of numbers.")
    if rule.kind is Kind.BOOL:
        return node.flag()
    return node.whole() if rule.kind is Kind.INT else node.number()
