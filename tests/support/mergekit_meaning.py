"""What mergekit itself makes of a recipe: for every output layer its inputs and the parameters of each tensor."""

from __future__ import annotations

import hashlib
from typing import Any

import yaml
from mergekit import merge_methods
from mergekit.common import ModelReference, dtype_from_name
from mergekit.config import ConfigReader, InputSliceDefinition, MergeConfiguration, OutputSliceDefinition
from mergekit.parameter_resolver import resolve_parameters
from mergekit.scripts.multimerge import load_config

N_LAYERS = 8
"""Layers that every source is taken to have where a recipe merges whole checkpoints."""

_TENSORS = tuple(
    f"model.layers.{{n}}.{name}.weight"
    for name in (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.o_proj",
        "mlp.down_proj",
        "input_layernorm",
    )
)


class Refused(Exception):
    """mergekit does not take the recipe."""


def meaning(text: str) -> list[Any]:
    """The result's stage as plain data, stages that it uses as digests of theirs; equal meanings build equal bytes."""
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
        if len(documents) > 1:
            load_config(yaml.safe_dump_all(documents), "/nowhere")
        named = {document.get("name"): document for document in documents}
        return _stage(named.get(None, documents[-1]), named)
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


def _stage(document: dict[str, Any], named: dict[str, dict[str, Any]]) -> list[Any]:
    config = MergeConfiguration.model_validate(
        {key: value for key, value in document.items() if key != "name"}
    )
    method = merge_methods.get(config.merge_method)

    def model(reference: ModelReference | None) -> str | None:
        if reference is None or reference.model.path not in named:
            return None if reference is None else str(reference)
        stage = _stage(named[reference.model.path], named)
        digest = hashlib.sha256(repr(stage).encode()).hexdigest()[:8]
        return f"<{digest}>+{reference.lora}+{reference.override_architecture}"

    modules = {"": config} if not config.modules else config.modules
    layers = [
        layer for name, module in modules.items() for layer in _module(name, module, config, method, model)
    ]
    used_base = config.base_model or layers[0]["inputs"][0]
    head = {
        "method": config.merge_method,
        "donor": used_base if isinstance(used_base, str) else model(used_base),
        "dtype": str(dtype_from_name(config.dtype)),
        "out_dtype": str(dtype_from_name(config.out_dtype)),
        "tokenizer": _tokenizer(config, model),
        "template": config.chat_template or None,
    }
    return [head, layers]


def _module(
    name: str, module: Any, config: MergeConfiguration, method: Any, model: Any
) -> list[dict[str, Any]]:
    slices = module.slices or [_whole(module.models, config)]
    found: list[dict[str, Any]] = []
    for piece in slices:
        base = piece.base_model or config.base_model
        method.validate_inputs([source.model for source in piece.sources], base, group_name=name)
        counts = {source.layer_range[1] - source.layer_range[0] for source in piece.sources}
        if len(counts) != 1:
            raise ValueError("ranges of different lengths")
        count = counts.pop()
        reader = ConfigReader(
            config=config, slice_out=piece, t=0, module=module if module is not config else None
        )
        for index in range(count):
            t = index / (count - 1) if count > 1 else 1
            found.append(
                _layer(piece, index, reader.with_t(t), base, method, model, len(found)) | {"module": name}
            )
        if count <= 0 and (piece is slices[0] or piece is slices[-1]):
            found.append({"edge": [model(source.model) for source in piece.sources], "count": count})
    return found


def _whole(models: list[Any], config: MergeConfiguration) -> OutputSliceDefinition:
    sources = [
        InputSliceDefinition(model=one.model, layer_range=(0, N_LAYERS), parameters=one.parameters)
        for one in models
    ]
    if config.base_model and all(one.model != config.base_model for one in models):
        sources.append(InputSliceDefinition(model=config.base_model, layer_range=(0, N_LAYERS)))
    return OutputSliceDefinition(sources=sources)


def _layer(
    piece: OutputSliceDefinition,
    index: int,
    reader: ConfigReader,
    base: Any,
    method: Any,
    model: Any,
    slot: int,
) -> dict[str, Any]:
    parameters = []
    for template in _TENSORS:
        inputs = {source.model: template.format(n=source.layer_range[0] + index) for source in piece.sources}
        shared, own = resolve_parameters(
            method.spec,
            tensor_name=template.format(n=slot),
            inputs=inputs,
            sources=reader.parameter_sources,
            base_model=base,
            t=reader.t,
        )
        parameters.append([shared, {model(key): value for key, value in own.items()}])
    ignored = method.spec.contract.base.value == "ignored"
    return {
        "inputs": [model(source.model) for source in piece.sources],
        "layers": [source.layer_range[0] + index for source in piece.sources],
        "base": None if ignored else model(base),
        "parameters": parameters,
    }


def _tokenizer(config: MergeConfiguration, model: Any) -> Any:
    if config.tokenizer is None and config.tokenizer_source is None:
        return None
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    tokens = (config.tokenizer.tokens if config.tokenizer else None) or {}
    return [
        model(source) if isinstance(source, ModelReference) else source,
        {token: rule.model_dump() for token, rule in sorted(tokens.items())},
        (config.tokenizer.pad_to_multiple_of if config.tokenizer else None) or None,
    ]
