"""Number of output layers of a recipe, and recipes that are layer paths of one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipes.errors import RecipeSyntaxError
from recipes.layer_path import LayerPath
from recipes.layer_path_text import MAX_VISITS
from recipes.recipe.refs import ModelRef, SourceRef
from recipes.recipe.stage import DEFAULT_MODULE, Stage


def source_layers(source: SourceRef, layers: Mapping[str, int]) -> int | None:
    """Number of layers of a source, looked up by its text or its name."""
    return layers.get(str(source), layers.get(source.name))


def stage_layers(stages: Sequence[Stage], layers: Mapping[str, int]) -> tuple[int | None, ...]:
    """Number of output layers of each stage, None if unknown.

    Raises RecipeSyntaxError for a layer range outside its source.
    """
    layers_by_name: dict[str, int] = dict(layers)
    counts: list[int | None] = []
    for stage in stages:
        count = _output_layers(stage, layers_by_name)
        if stage.name and count is not None:
            layers_by_name[stage.name] = count
        counts.append(count)
    return tuple(counts)


def _output_layers(stage: Stage, layers_by_name: Mapping[str, int]) -> int | None:
    counts = [_module_layers(stage, index, layers_by_name) for index in range(len(stage.modules))]
    return counts[0] if len(counts) == 1 else None


def _module_layers(stage: Stage, index: int, layers_by_name: Mapping[str, int]) -> int | None:
    module = stage.modules[index]
    if module.slices:
        for slice_ in module.slices:
            for input_ in slice_.inputs:
                _check_range(input_.model, input_.layers or (0, 0), layers_by_name, stage)
        return sum(slice_.n_layers for slice_ in module.slices)
    counts = {input_.model: source_layers(input_.model.source, layers_by_name) for input_ in module.models}
    if stage.base:
        counts[stage.base] = source_layers(stage.base.source, layers_by_name)
    depths = {count for count in counts.values() if count is not None}
    if len(depths) > 1:
        listed = ", ".join(f"{model} {count}" for model, count in counts.items() if count is not None)
        raise RecipeSyntaxError(
            f"{_stage_title(stage)} merges whole checkpoints of different depths ({listed} layers); "
            "use `slices` to say which layers meet."
        )
    return None if None in counts.values() else depths.pop()


def _check_range(
    model: ModelRef, layers: tuple[int, int], layers_by_name: Mapping[str, int], stage: Stage
) -> None:
    count = source_layers(model.source, layers_by_name)
    if count is not None and layers[1] > count:
        raise RecipeSyntaxError(
            f"{_stage_title(stage)} takes layers [{layers[0]}, {layers[1]}) of {model}, which has {count} layers."
        )


def _stage_title(stage: Stage) -> str:
    return f"Stage {stage.name!r}" if stage.name else "The recipe"


def is_copy(stage: Stage) -> bool:
    """Whether the stage only copies layers; a conversion to another dtype is allowed."""
    changes = stage.tokenizer or stage.chat_template or [*stage.all_parameters()]
    unmodified_refs = all(ref.adapter is None and ref.architecture is None for ref in stage.refs())
    single_module = len(stage.modules) == 1 and stage.modules[0].name == DEFAULT_MODULE
    return stage.method == "passthrough" and single_module and unmodified_refs and not changes


def copied_layer_path(
    stage: Stage, layers: Mapping[str, int], dtypes: Mapping[str, str]
) -> tuple[SourceRef, LayerPath] | None:
    """Source and layer path of a stage that copies layers of one source without a change of dtype; None for others."""
    sources = {ref.source for ref in stage.refs()}
    if not is_copy(stage) or len(sources) != 1:
        return None
    source = sources.pop()
    count = source_layers(source, layers)
    dtype = dtypes.get(str(source), dtypes.get(source.name))
    if count is None or any(name not in (None, dtype) for name in (stage.dtype, stage.out_dtype)):
        return None
    module = stage.modules[0]
    if module.models:
        return source, LayerPath.baseline(count)
    _module_layers(stage, 0, layers)
    visited = tuple(
        layer for slice_ in module.slices for layer in range(*(slice_.inputs[0].layers or (0, 0)))
    )
    return (source, LayerPath(layers=visited, n_layers=count)) if len(visited) <= MAX_VISITS else None
