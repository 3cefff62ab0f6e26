"""How many layers come out of a recipe, and whether it only walks the layers of one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipes.errors import RecipeSyntaxError
from recipes.layer_path import MAX_VISITS, LayerPath
from recipes.recipe.refs import ModelRef, SourceRef
from recipes.recipe.stage import DEFAULT_MODULE, Stage


def known_layers(source: SourceRef, layers: Mapping[str, int]) -> int | None:
    """Layers of a source, by its text or by its name alone."""
    return layers.get(str(source), layers.get(source.name))


def stage_layers(stages: Sequence[Stage], layers: Mapping[str, int]) -> tuple[int | None, ...]:
    """Output layers of each stage, null where the sources' layers do not tell; refuses ranges that leave a source."""
    known: dict[str, int] = dict(layers)
    found: list[int | None] = []
    for stage in stages:
        count = _output_layers(stage, known)
        if stage.name and count is not None:
            known[stage.name] = count
        found.append(count)
    return tuple(found)


def _output_layers(stage: Stage, known: Mapping[str, int]) -> int | None:
    counts = [_module_layers(stage, index, known) for index in range(len(stage.modules))]
    return counts[0] if len(counts) == 1 else None


def _module_layers(stage: Stage, index: int, known: Mapping[str, int]) -> int | None:
    module = stage.modules[index]
    if module.slices:
        for one in module.slices:
            for each in one.inputs:
                _check_range(each.model, each.layers or (0, 0), known, stage)
        return sum(one.n_layers for one in module.slices)
    counts = {each.model: known_layers(each.model.source, known) for each in module.models}
    if stage.base:
        counts[stage.base] = known_layers(stage.base.source, known)
    depths = {count for count in counts.values() if count is not None}
    if len(depths) > 1:
        listed = ", ".join(f"{model} {count}" for model, count in counts.items() if count is not None)
        raise RecipeSyntaxError(
            f"{_where(stage)} merges whole checkpoints of different depths ({listed} layers); "
            "use `slices` to say which layers meet."
        )
    return None if None in counts.values() else depths.pop()


def _check_range(model: ModelRef, layers: tuple[int, int], known: Mapping[str, int], stage: Stage) -> None:
    count = known_layers(model.source, known)
    if count is not None and layers[1] > count:
        raise RecipeSyntaxError(
            f"{_where(stage)} takes layers [{layers[0]}, {layers[1]}) of {model}, which has {count} layers."
        )


def _where(stage: Stage) -> str:
    return f"Stage {stage.name!r}" if stage.name else "The recipe"


def is_copy(stage: Stage) -> bool:
    """Whether the stage copies layers and computes nothing (its dtype may still convert them)."""
    changes = stage.tokenizer or stage.chat_template or [*stage.all_parameters()]
    plain = all(ref.adapter is None and ref.architecture is None for ref in stage.refs())
    whole = len(stage.modules) == 1 and stage.modules[0].name == DEFAULT_MODULE
    return stage.method == "passthrough" and whole and plain and not changes


def copied_path(
    stage: Stage, layers: Mapping[str, int], dtypes: Mapping[str, str]
) -> tuple[SourceRef, LayerPath] | None:
    """The source and path of a stage that only copies layers of one source, its dtype unchanged."""
    sources = {ref.source for ref in stage.refs()}
    if not is_copy(stage) or len(sources) != 1:
        return None
    source = sources.pop()
    count = known_layers(source, layers)
    dtype = dtypes.get(str(source), dtypes.get(source.name))
    if count is None or any(wanted not in (None, dtype) for wanted in (stage.dtype, stage.out_dtype)):
        return None
    module = stage.modules[0]
    if module.models:
        return source, LayerPath.baseline(count)
    _module_layers(stage, 0, layers)
    visited = tuple(layer for one in module.slices for layer in range(*(one.inputs[0].layers or (0, 0))))
    return (source, LayerPath(layers=visited, n_layers=count)) if len(visited) <= MAX_VISITS else None
