"""Recipes that an older mergekit accepted and the supported one refuses, rewritten to what they meant.

Sources: mergekit of 2023 `merge_methods/slerp.py` (if the first tensor is not the base's, both are exchanged), mergekit 0.0.5 and
0.1.4 `plan.py` (inputs are a mapping by checkpoint), `config.py` (the first entry that sets a parameter gives it).
"""

from __future__ import annotations

from collections.abc import Sequence

from recipes.recipe.methods import BasePolicy
from recipes.recipe.node import Node
from recipes.recipe.refs import ModelRef
from recipes.recipe.stage import Input, Module, Parameter, Slice, Stage

_COPIES_ONE = ("slerp", "nuslerp", "nearswap", "arcee_fusion")
"""Methods of two inputs; mergekit before 0.1.5 returned the tensor unchanged where there was one."""


def with_older_meaning(stage: Stage, node: Node) -> Stage:
    """The stage in the terms of the supported mergekit; a remark tells the meaning of each change."""
    modules = tuple(_module(module, stage, _module_node(module, node)) for module in stage.modules)
    stage = stage.model_copy(update={"modules": modules})
    groups = [group for module in modules for group in module.groups()]
    if stage.method in _COPIES_ONE and all(_copies_one(group, stage) for group in groups):
        node.child("merge_method").remark(
            f"{stage.method} has one checkpoint only; mergekit before 0.1.5 copied it unchanged, and so it is built."
        )
        return _as_copy(stage)
    return stage


def _module_node(module: Module, node: Node) -> Node:
    owner = node.child("modules").child(module.name) if node.value.get("modules") else node
    return owner.child("slices" if module.slices else "models")


def _module(module: Module, stage: Stage, node: Node) -> Module:
    if module.models:
        return module.model_copy(update={"models": _each_once(module.models, node)})
    slices = []
    for index, slice_ in enumerate(module.slices):
        once = slice_.model_copy(update={"inputs": _each_once(slice_.inputs, node.child(index))})
        slices.append(_with_second_as_base(once, stage, node.child(index)))
    return module.model_copy(update={"slices": tuple(slices)})


def _each_once(inputs: Sequence[Input], node: Node) -> tuple[Input, ...]:
    """The inputs with each checkpoint once; those with different layers stay, since versions of mergekit differ on them."""
    kept: dict[ModelRef, Input] = {}
    for input_ in inputs:
        first = kept.get(input_.model)
        if first is not None and first.layers != input_.layers:
            return tuple(inputs)
        kept[input_.model] = input_ if first is None else _joined(first, input_)
    for model in kept:
        if (times := sum(input_.model == model for input_ in inputs)) > 1:
            node.remark(
                f"{model} is listed {times} times; mergekit before 0.1.5 counted it once, with the first entry's parameters, and so it "
                "is built."
            )
    return tuple(kept.values())


def _joined(first: Input, second: Input) -> Input:
    """The first entry; what it leaves open for a parameter or some tensors comes from the second."""
    later = {parameter.name: parameter for parameter in second.parameters}
    parameters = [_completed(parameter, later.pop(parameter.name, None)) for parameter in first.parameters]
    return first.model_copy(update={"parameters": (*parameters, *later.values())})


def _completed(first: Parameter, second: Parameter | None) -> Parameter:
    if second is None or first.is_complete:
        return first
    return first.model_copy(update={"conditions": (*first.conditions, *second.conditions)})


def _with_second_as_base(slice_: Slice, stage: Stage, node: Node) -> Slice:
    """A slerp of two sources whose base is neither, outside of the tokenizer's options: the second one is its base."""
    base = slice_.base or stage.base
    models = [input_.model for input_ in slice_.inputs]
    if stage.method != "slerp" or base is None or base in models or len(models) != 2 or stage.tokenizer:
        return slice_
    first, second = models
    gives = f"; {base} gives config and tokenizer only" if base == stage.base else ""
    node.remark(
        f"the base {base} is no source of this slerp; mergekit of 2023 took the second source as the base, so t = 0 is {second} and t = 1 is "
        f"{first}{gives}, and so it is built (mergekit 0.0.4.4 and later refuse it)."
    )
    return slice_.model_copy(update={"base": second})


def _copies_one(group: Slice, stage: Stage) -> bool:
    base = group.base or stage.base
    needs_base = stage.method_spec.base is BasePolicy.REQUIRED
    return len(group.inputs) == 1 and base == (group.inputs[0].model if needs_base else None)


def _as_copy(stage: Stage) -> Stage:
    """A passthrough of the only input of each slice, without parameters."""

    def copied(inputs: Sequence[Input]) -> tuple[Input, ...]:
        return tuple(input_.model_copy(update={"parameters": ()}) for input_ in inputs)

    modules = [
        Module(
            name=module.name,
            models=copied(module.models),
            slices=tuple(Slice(inputs=copied(slice_.inputs)) for slice_ in module.slices),
        )
        for module in stage.modules
    ]
    return stage.model_copy(update={"method": "passthrough", "modules": tuple(modules), "parameters": ()})
