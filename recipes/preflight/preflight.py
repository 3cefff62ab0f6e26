"""Reads the facts of all sources of a recipe concurrently and combines them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recipes.catalog import catalog_config
from recipes.config_facts import ConfigFacts
from recipes.errors import CheckpointError, LayerPathError, RecipeSyntaxError
from recipes.preflight.fit import (
    incompatibilities,
    layer_order_problems,
    rounding_remarks,
    tokenizer_differences,
    vocabulary_of,
)
from recipes.preflight.outputs import Weights, estimate_stage, stage_outputs
from recipes.preflight.records import Preflight, SourcePreflight, StagePreflight
from recipes.recipe import Recipe, SourceRef, Stage
from recipes.recipe.depth import is_copy
from recipes.recipe.filters import find_missing_value, unused_filters
from recipes.sources import (
    FactsOrigin,
    facts_from_config,
    is_hub_unreachable,
    is_local,
    read_facts,
    read_small_file,
)

_MANIFEST_BYTES = 50_000_000
"""Disk space for tokenizers, indexes and manifests."""


def preflight(
    recipe: Recipe, *, home: Path, folder: Path | None = None, allow_pickles: bool = False
) -> Preflight:
    """Preflight of a recipe, without reading weights.

    Relative directories in the recipe are resolved against `folder`. A missing source does not raise: problems and
    unknown facts are fields of the result.
    """
    facts = _RecipeFacts(recipe, home, folder or Path(), allow_pickles)
    problems = [source.problem for source in facts.sources if source.problem]
    try:
        stages = recipe.resolved(facts.layers).ordered
        written = stage_outputs(stages, facts.weights)
    except (RecipeSyntaxError, LayerPathError) as error:
        return _failed_preflight(recipe, facts, [*problems, str(error)])
    outputs = list(zip(stages, written, strict=True))
    weights = {**facts.weights, **{stage.name or "": output for stage, output in outputs}}
    figures = tuple(estimate_stage(stage, output, weights) for stage, output in outputs)
    for stage in stages:
        problems += [
            *incompatibilities(stage, facts.configs),
            *layer_order_problems(stage, facts.raw_configs, facts.configs, facts.names_by_source),
        ]
        problem = find_missing_value(stage, facts.tensor_names(stage))
        problems += [problem] if problem else []
    result = written[-1]
    return Preflight(
        stages=figures,
        sources=facts.sources,
        parameters_from=result.known_from if result.parameters is not None else None,
        embedding_parameters=result.rest,
        layer_parameters=result.layer,
        disk_bytes=_disk_bytes(figures),
        download_bytes=facts.download_bytes,
        problems=tuple(dict.fromkeys(problems)),
        remarks=tuple(dict.fromkeys([*recipe.remarks, *_remarks(stages, facts)])),
        unknown=tuple(_unknown(stages, figures, facts)),
    )


class _RecipeFacts:
    """Facts of all sources, read concurrently because requests to the hub are slow."""

    def __init__(self, recipe: Recipe, home: Path, folder: Path, allow_pickles: bool) -> None:
        self._home = home
        self._folder = folder
        self._allow_pickles = allow_pickles
        self._adapters = frozenset(recipe.adapters)
        self._refs = {str(source): self._resolve_folder(source) for source in recipe.sources}
        with ThreadPoolExecutor(max_workers=8) as pool:
            self.sources = tuple(pool.map(self._inspect, recipe.sources))
        facts = {source.name: source.facts for source in self.sources if not source.is_adapter}
        self.weights = {name: Weights.of(source_facts) for name, source_facts in facts.items()}
        self.configs: dict[str, ConfigFacts] = {
            name: source_facts.config for name, source_facts in facts.items() if source_facts
        }
        self.layers = {name: config.n_layers for name, config in self.configs.items()}
        self.raw_configs: dict[str, dict[str, Any]] = {
            name: raw for name in self.configs if (raw := self._raw_config(name)) is not None
        }

    @property
    def download_bytes(self) -> int | None:
        """Size in bytes of the weights that are not on this machine; None if unknown."""
        total = 0
        for source in self.sources:
            if source.is_local or source.is_adapter:
                continue
            size = source.facts.size_bytes if source.facts else None
            size = size if size is not None else self.weights[source.name].size_bytes
            if size is None:
                return None
            total += size
        return total

    def tensor_names(self, stage: Stage) -> tuple[str, ...]:
        """Tensor names of the first checkpoint of the stage whose headers were read; empty if there is none."""
        by_source = self.names_by_source
        return next((names for ref in stage.refs() if (names := by_source.get(str(ref.source)))), ())

    @property
    def names_by_source(self) -> dict[str, tuple[str, ...]]:
        """Tensor names by source; empty for those whose headers were not read."""
        return {source.name: source.facts.tensor_names for source in self.sources if source.facts}

    def vocabulary(self, name: str) -> dict[str, int] | None:
        """Tokens and ids of a source's tokenizer; None if it cannot be read."""
        if name not in self.configs:
            return None
        text = self._file(name, "tokenizer.json")
        return None if text is None else vocabulary_of(text)

    def _raw_config(self, name: str) -> dict[str, Any] | None:
        text = self._file(name, "config.json")
        return None if text is None else dict(json.loads(text))

    def _file(self, name: str, file: str) -> bytes | None:
        source = next(source for source in self.sources if source.name == name)
        if source.facts is None or source.facts.known_from is FactsOrigin.CATALOG:
            return None
        try:
            return read_small_file(self._refs[name], file, home=self._home)
        except CheckpointError:
            return None

    def _resolve_folder(self, source: SourceRef) -> SourceRef:
        path = (self._folder / source.name).expanduser()
        return source.model_copy(update={"name": str(path.absolute())}) if path.is_dir() else source

    def _inspect(self, source: SourceRef) -> SourcePreflight:
        name, ref = str(source), self._refs[str(source)]
        if source in self._adapters:
            return SourcePreflight(name=name, is_adapter=True, is_local=Path(ref.name).is_dir())
        try:
            facts = read_facts(ref, home=self._home, allow_pickles=self._allow_pickles)
            return SourcePreflight(name=name, facts=facts, is_local=is_local(ref, self._home))
        except CheckpointError as error:
            catalogued = catalog_config(source.name)
            catalog_facts = None
            if catalogued:
                config = ConfigFacts.from_config(catalogued, name)
                catalog_facts = facts_from_config(config, FactsOrigin.CATALOG)
            unreachable = is_hub_unreachable(error)
            return SourcePreflight(
                name=name,
                facts=catalog_facts,
                problem=None if unreachable else str(error),
                unknown=str(error) if unreachable else None,
            )


def _failed_preflight(recipe: Recipe, facts: _RecipeFacts, problems: list[str]) -> Preflight:
    """Preflight of a recipe whose number of layers cannot be determined."""
    unknown = {"n_layers": None, "parameters": None, "dtype": None, "size_bytes": None, "memory_bytes": None}
    method = recipe.ordered[-1].method if recipe.ordered else "passthrough"
    return Preflight(
        stages=(StagePreflight(name="result", method=method, moves_bytes=recipe.is_copy, **unknown),),
        sources=facts.sources,
        parameters_from=None,
        embedding_parameters=None,
        layer_parameters=None,
        disk_bytes=None,
        download_bytes=facts.download_bytes,
        problems=tuple(problems),
        remarks=recipe.remarks,
        unknown=tuple(source.unknown for source in facts.sources if source.unknown),
    )


def _disk_bytes(figures: tuple[StagePreflight, ...]) -> int | None:
    sizes = [stage.size_bytes for stage in figures]
    return None if None in sizes else sum(size for size in sizes if size is not None) + _MANIFEST_BYTES


def _remarks(stages: tuple[Stage, ...], facts: _RecipeFacts) -> Iterator[str]:
    for stage in stages:
        tensors = facts.tensor_names(stage)
        for text in unused_filters(stage, tensors) if tensors else ():
            yield f"The filter {text!r} does nothing: no tensor's name contains it."
        names = [
            name for name in dict.fromkeys(str(ref.source) for ref in stage.refs()) if name in facts.configs
        ]
        yield from rounding_remarks(stage, {name: facts.weights[name].dtype for name in names})
        if stage.tokenizer is None and len(names) > 1:
            # In a stack of slices only the first source gives the embedding and the last one the head.
            joined = [names[0], _head_source(stage)] if is_copy(stage) else names
            yield from tokenizer_differences(list(dict.fromkeys(joined)), facts.vocabulary)
    for source in facts.sources:
        if source.facts and source.facts.config.quantization:
            yield f"{source.name} has quantised weights ({source.facts.config.quantization})."
        active = source.facts.config.active_parameters() if source.facts else None
        if active is not None:
            yield f"{source.name} is a mixture of experts: a token uses {active / 1e9:.3g} B of its parameters."
        if source.facts and source.facts.known_from is FactsOrigin.CATALOG:
            yield f"The figures of {source.name} come from the catalogue; the config of the checkpoint was not read."


def _head_source(stage: Stage) -> str:
    return str(stage.modules[0].groups()[-1].inputs[0].model.source)


def _unknown(
    stages: tuple[Stage, ...], figures: tuple[StagePreflight, ...], facts: _RecipeFacts
) -> Iterator[str]:
    yield from (source.unknown for source in facts.sources if source.unknown)
    for stage, figure in zip(stages, figures, strict=True):
        if stage.tokenizer is not None:
            yield f"Stage {figure.name}: vocabulary and exact size are only known after the tokenizers are joined."
        if figure.n_layers is None:
            yield f"Stage {figure.name}: the number of layers is unknown, because that of a source is."
        elif figure.parameters is None:
            yield f"Stage {figure.name}: the number of parameters is unknown, because that of a source is, or its layers differ."
        elif figure.size_bytes is None:
            yield f"Stage {figure.name}: the size is unknown, because the dtype of a source is."
    for source in facts.sources:
        if source.is_adapter:
            yield f"Whether the adapter {source.name} fits its checkpoint is only known after it is loaded."
