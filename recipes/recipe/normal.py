"""The normal form of a stage, and the mergekit document that says it."""

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
"""How a model reference is written: as mergekit text, or as the digest of what it stands for."""

_WHOLE_MODEL = "default"
"""What mergekit calls the only module of an ordinary language model."""


def normal(stage: Stage) -> Stage:
    """The stage with everything removed that changes nothing: two spellings of one merge become equal."""
    modules = stage.modules
    if len(modules) == 1 and modules[0].name == _WHOLE_MODEL and not modules[0].parameters:
        modules = (modules[0].model_copy(update={"name": DEFAULT_MODULE}),)
    parameters = tuple(p for p in stage.parameters if not _is_default(p, stage.rule))
    stage = stage.model_copy(update={"parameters": parameters, "base": _base(stage)})
    return stage.model_copy(update={"modules": tuple(_module(module, stage) for module in modules)})


def _is_default(parameter: Parameter, method: Method) -> bool:
    rule = method.rule(parameter.name)
    return rule is not None and rule.default is not None and parameter.constant == rule.default


def _base(stage: Stage) -> ModelRef | None:
    """Where the method ignores the base it only lends config and tokenizer, as the first input does without one."""
    if stage.rule.base is not BasePolicy.IGNORED:
        return stage.base
    first = stage.modules[0].groups()[0].inputs[0].model
    return None if stage.base == first else stage.base


def _module(module: Module, stage: Stage) -> Module:
    slices = [
        one.model_copy(update={"base": None})
        if one.base in (stage.base, None) or _ignores_base(stage)
        else one
        for one in module.slices
    ]
    last = len(slices) - 1
    slices = [one for index, one in enumerate(slices) if one.n_layers or index in (0, last)]
    if stage.method == "passthrough" and not stage.parameters and not module.parameters:
        slices = _joined(slices)
    return module.model_copy(update={"slices": tuple(slices)})


def _ignores_base(stage: Stage) -> bool:
    return stage.rule.base is BasePolicy.IGNORED


def _joined(slices: list[Slice]) -> list[Slice]:
    """Copied ranges that follow on each other in one checkpoint, as one range."""
    joined: list[Slice] = []
    for one in slices:
        if joined and _follows(joined[-1], one):
            first, then = joined[-1].inputs[0], one.inputs[0]
            layers = (first.layers or (0, 0))[0], (then.layers or (0, 0))[1]
            joined[-1] = Slice(inputs=(Input(model=first.model, layers=layers),))
        else:
            joined.append(one)
    return joined


def _follows(before: Slice, after: Slice) -> bool:
    first, then = before.inputs[0], after.inputs[0]
    plain = not (before.parameters or after.parameters or first.parameters or then.parameters)
    adjoining = first.layers is not None and then.layers is not None and first.layers[1] == then.layers[0]
    return plain and adjoining and first.model == then.model


def document(stage: Stage, encode: Encode) -> dict[str, Any]:
    """The stage as the data of a mergekit document."""
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
    """A model reference in mergekit's short spelling, or the long one where the short would be misread."""
    parts = [ref.source, *([ref.adapter] if ref.adapter else [])]
    if ref.architecture is None and not any(sign in part.name for part in parts for sign in "@+"):
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
        return {"models": [_input_data(one, encode) for one in module.models]}
    return {"slices": [_slice_data(one, encode) for one in module.slices]}


def _slice_data(one: Slice, encode: Encode) -> dict[str, Any]:
    data: dict[str, Any] = {"sources": [_input_data(each, encode) for each in one.inputs]}
    data["base_model"] = encode(one.base) if one.base else None
    return _without_none(data | _parameters_data(one.parameters))


def _input_data(one: Input, encode: Encode) -> dict[str, Any]:
    layers = list(one.layers) if one.layers else None
    return _without_none(
        {"model": encode(one.model), "layer_range": layers} | _parameters_data(one.parameters)
    )


def _parameters_data(parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    return {"parameters": {one.name: _setting_data(one) for one in parameters}} if parameters else {}


def _setting_data(parameter: Parameter) -> Any:
    only = parameter.conditions[0]
    if only.filter is None:
        return _value_data(only)
    return [_without_none({"filter": one.filter, "value": _value_data(one)}) for one in parameter.conditions]


def _value_data(condition: Condition) -> Any:
    return list(condition.value) if isinstance(condition.value, tuple) else condition.value


def _tokenizer_data(rule: TokenizerRule, encode: Encode) -> dict[str, Any]:
    source = rule.source if isinstance(rule.source, str) else encode(rule.source)
    tokens = {one.token: _token_data(one, encode) for one in rule.tokens}
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
