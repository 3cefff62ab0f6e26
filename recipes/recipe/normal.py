"""Normal form of a stage, and its mergekit document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recipes.recipe.methods import BasePolicy, Method
from recipes.recipe.refs import ModelRef, SourceRef
from recipes.recipe.stage import (
    DEFAULT_MODULE,
    Condition,
    Input,
    Module,
    Parameter,
    Slice,
    Stage,
    TokenizerRule,
    TokenRule,
)

Encode = Callable[[ModelRef], Any]
"""Encodes a model reference: as mergekit text, or as the digest of its weights."""

_WHOLE_MODEL = "default"
"""mergekit's name of the only module of a plain language model."""


def normalize(stage: Stage) -> Stage:
    """Remove everything without effect, so that different spellings of a merge become equal."""
    modules = stage.modules
    if len(modules) == 1 and modules[0].name == _WHOLE_MODEL and not modules[0].parameters:
        modules = (modules[0].model_copy(update={"name": DEFAULT_MODULE}),)
    parameters = tuple(p for p in stage.parameters if not _is_default(p, stage.method_spec))
    stage = stage.model_copy(update={"parameters": parameters, "base": _normal_base(stage)})
    return stage.model_copy(update={"modules": tuple(_normal_module(module, stage) for module in modules)})


def _is_default(parameter: Parameter, method: Method) -> bool:
    rule = method.rule(parameter.name)
    return rule is not None and rule.default is not None and parameter.constant == rule.default


def _normal_base(stage: Stage) -> ModelRef | None:
    """Base of the normal form: a method that ignores it only takes config and tokenizer, by default of the first input."""
    if stage.method_spec.base is not BasePolicy.IGNORED:
        return stage.base
    first = stage.modules[0].groups()[0].inputs[0].model
    return None if stage.base == first else stage.base


def _normal_module(module: Module, stage: Stage) -> Module:
    slices = [
        slice_.model_copy(update={"base": None})
        if slice_.base in (stage.base, None) or _ignores_base(stage)
        else slice_
        for slice_ in module.slices
    ]
    last_index = len(slices) - 1
    slices = [slice_ for index, slice_ in enumerate(slices) if slice_.n_layers or index in (0, last_index)]
    if stage.method == "passthrough" and not stage.parameters and not module.parameters:
        slices = _join_ranges(slices)
    return module.model_copy(update={"slices": tuple(slices)})


def _ignores_base(stage: Stage) -> bool:
    return stage.method_spec.base is BasePolicy.IGNORED


def _join_ranges(slices: list[Slice]) -> list[Slice]:
    """Join adjacent copied ranges of one checkpoint."""
    joined: list[Slice] = []
    for slice_ in slices:
        if joined and _is_continuation(joined[-1], slice_):
            first, second = joined[-1].inputs[0], slice_.inputs[0]
            layers = (first.layers or (0, 0))[0], (second.layers or (0, 0))[1]
            joined[-1] = Slice(inputs=(Input(model=first.model, layers=layers),))
        else:
            joined.append(slice_)
    return joined


def _is_continuation(before: Slice, after: Slice) -> bool:
    first, second = before.inputs[0], after.inputs[0]
    has_no_parameters = not (before.parameters or after.parameters or first.parameters or second.parameters)
    adjacent = first.layers is not None and second.layers is not None and first.layers[1] == second.layers[0]
    return has_no_parameters and adjacent and first.model == second.model


def document(stage: Stage, encode: Encode) -> dict[str, Any]:
    """Mergekit document of a stage, as plain data."""
    data: dict[str, Any] = {"name": stage.name, "merge_method": stage.method}
    data["base_model"] = encode(stage.base) if stage.base else None
    if len(stage.modules) == 1 and stage.modules[0].name == DEFAULT_MODULE:
        data |= _module_data(stage.modules[0], encode)
    else:
        data["modules"] = {
            module.name: _module_data(module, encode) | _parameters_data(module.parameters)
            for module in stage.modules
        }
    data |= _parameters_data(stage.parameters)
    data["tokenizer"] = _tokenizer_data(stage.tokenizer, encode) if stage.tokenizer else None
    data |= {"chat_template": stage.chat_template, "dtype": stage.dtype, "out_dtype": stage.out_dtype}
    return _without_none(data)


def as_text(ref: ModelRef) -> Any:
    """Model reference in mergekit's short spelling, or in the long one if the short one is ambiguous."""
    parts = [ref.source, *([ref.adapter] if ref.adapter else [])]
    if ref.architecture is None and not any(character in part.name for part in parts for character in "@+"):
        return str(ref)
    lora = _source_data(ref.adapter) if ref.adapter else None
    return _without_none(
        {"model": _source_data(ref.source), "lora": lora, "override_architecture": ref.architecture}
    )


def _source_data(source: SourceRef) -> dict[str, Any]:
    return _without_none({"path": source.name, "revision": source.revision})


def _without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _module_data(module: Module, encode: Encode) -> dict[str, Any]:
    if module.models:
        return {"models": [_input_data(part, encode) for part in module.models]}
    return {"slices": [_slice_data(part, encode) for part in module.slices]}


def _slice_data(slice_: Slice, encode: Encode) -> dict[str, Any]:
    data: dict[str, Any] = {"sources": [_input_data(input_, encode) for input_ in slice_.inputs]}
    data["base_model"] = encode(slice_.base) if slice_.base else None
    return _without_none(data | _parameters_data(slice_.parameters))


def _input_data(input_: Input, encode: Encode) -> dict[str, Any]:
    layers = list(input_.layers) if input_.layers else None
    return _without_none(
        {"model": encode(input_.model), "layer_range": layers} | _parameters_data(input_.parameters)
    )


def _parameters_data(parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    return (
        {"parameters": {parameter.name: _setting_data(parameter) for parameter in parameters}}
        if parameters
        else {}
    )


def _setting_data(parameter: Parameter) -> Any:
    first = parameter.conditions[0]
    if first.filter is None:
        return _value_data(first)
    return [
        _without_none({"filter": condition.filter, "value": _value_data(condition)})
        for condition in parameter.conditions
    ]


def _value_data(condition: Condition) -> Any:
    return list(condition.value) if isinstance(condition.value, tuple) else condition.value


def _tokenizer_data(rule: TokenizerRule, encode: Encode) -> dict[str, Any]:
    source = rule.source if isinstance(rule.source, str) else encode(rule.source)
    tokens = {token_rule.token: _token_data(token_rule, encode) for token_rule in rule.tokens}
    return _without_none(
        {"source": source, "tokens": tokens or None, "pad_to_multiple_of": rule.pad_to_multiple_of}
    )


def _token_data(rule: TokenRule, encode: Encode) -> dict[str, Any]:
    source: Any = encode(rule.model) if rule.model else None
    if rule.zero:
        source = {"kind": "zero"}
    elif rule.other_token is not None:
        key = "token" if isinstance(rule.other_token, str) else "token_id"
        source = {"kind": "model_token", "model": source, key: rule.other_token}
    return _without_none({"source": source, "force": rule.force or None})
