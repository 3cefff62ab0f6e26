"""Looks at every source of a recipe at once and puts what it finds together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recipes.catalog import catalog_config
from recipes.config_facts import ConfigFacts
from recipes.errors import CheckpointError, LayerPathError, RecipeSyntaxError
from recipes.preflight.fit import conversions, misfits, tokenizer_differences, unmovable, vocabulary_of
from recipes.preflight.outputs import Weights, estimated, outputs
from recipes.preflight.records import Preflight, SourcePreflight, StagePreflight
from recipes.recipe import Recipe, SourceRef, Stage
from recipes.recipe.depth import is_copy
from recipes.recipe.filters import idle_filters, missing_value
from recipes.sources import (
    FactsOrigin,
    facts_from_config,
    is_hub_unreachable,
    is_local,
    read_facts,
    read_small_file,
)

_MANIFEST_BYTES = 50_000_000
"""Room for tokenizers, indexes and manifests."""


def preflight(
    recipe: Recipe, *, home: Path, folder: Path | None = None, allow_pickles: bool = False
) -> Preflight:
    """Everything that can be known of a recipe before a byte of weights is read.

    Directories that the recipe names are looked up from `folder`. Raises nothing for sources that are missing: what is
    wrong and what is unknown is part of the answer.
    """
    looked = _Sources(recipe, home, folder or Path(), allow_pickles)
    problems = [source.problem for source in looked.found if source.problem]
    try:
        stages = recipe.resolved(looked.layers).ordered
        written = outputs(stages, looked.weights)
    except (RecipeSyntaxError, LayerPathError) as error:
        return _unplanned(recipe, looked, [*problems, str(error)])
    known = {**looked.weights, **{stage.name or "": w for stage, w in zip(stages, written, strict=True)}}
    figures = tuple(estimated(stage, w, known) for stage, w in zip(stages, written, strict=True))
    for stage in stages:
        problems += [*misfits(stage, looked.configs), *unmovable(stage, looked.raw, looked.configs)]
        lacking = missing_value(stage, looked.names_in(stage))
        problems += [lacking] if lacking else []
    result = written[-1]
    return Preflight(
        stages=figures,
        sources=looked.found,
        parameters_from=result.known_from if result.parameters is not None else None,
        embedding_parameters=result.rest,
        layer_parameters=result.layer,
        disk_bytes=_disk(figures),
        download_bytes=looked.download_bytes,
        problems=tuple(dict.fromkeys(problems)),
        remarks=tuple(dict.fromkeys([*recipe.remarks, *_remarks(stages, looked)])),
        unknown=tuple(_unknown(stages, figures, looked)),
    )


class _Sources:
    """What is known of every source, looked up together because each may take its time."""

    def __init__(self, recipe: Recipe, home: Path, folder: Path, allow_pickles: bool) -> None:
        self._home = home
        self._folder = folder
        self._allow_pickles = allow_pickles
        self._adapters = frozenset(recipe.adapters)
        self._places = {str(source): self._place(source) for source in recipe.sources}
        with ThreadPoolExecutor(max_workers=8) as pool:
            self.found = tuple(pool.map(self._look, recipe.sources))
        facts = {source.name: source.facts for source in self.found if not source.is_adapter}
        self.weights = {name: Weights.of(one) for name, one in facts.items()}
        self.configs: dict[str, ConfigFacts] = {name: one.config for name, one in facts.items() if one}
        self.layers = {name: config.n_layers for name, config in self.configs.items()}
        self.raw: dict[str, dict[str, Any]] = {
            name: raw for name in self.configs if (raw := self._raw_config(name)) is not None
        }

    @property
    def download_bytes(self) -> int | None:
        """Bytes of weights that are not on this machine."""
        total = 0
        for source in self.found:
            if source.is_local or source.is_adapter:
                continue
            size = source.facts.size_bytes if source.facts else None
            size = size if size is not None else self.weights[source.name].size_bytes
            if size is None:
                return None
            total += size
        return total

    def names_in(self, stage: Stage) -> tuple[str, ...]:
        """Names of the tensors of the stage's first checkpoint whose headers were read; empty where none were."""
        known = {source.name: source.facts.tensor_names for source in self.found if source.facts}
        return next((names for ref in stage.refs() if (names := known.get(str(ref.source)))), ())

    def vocabulary(self, name: str) -> dict[str, int] | None:
        """Tokens of a source's tokenizer; null where it cannot be read from here."""
        if name not in self.configs:
            return None
        text = self._file(name, "tokenizer.json")
        return None if text is None else vocabulary_of(text)

    def _raw_config(self, name: str) -> dict[str, Any] | None:
        text = self._file(name, "config.json")
        return None if text is None else dict(json.loads(text))

    def _file(self, name: str, file: str) -> bytes | None:
        source = next(one for one in self.found if one.name == name)
        if source.facts is None or source.facts.known_from is FactsOrigin.CATALOG:
            return None
        try:
            return read_small_file(self._places[name], file, home=self._home)
        except CheckpointError:
            return None

    def _place(self, source: SourceRef) -> SourceRef:
        path = (self._folder / source.name).expanduser()
        return source.model_copy(update={"name": str(path.absolute())}) if path.is_dir() else source

    def _look(self, source: SourceRef) -> SourcePreflight:
        name, place = str(source), self._places[str(source)]
        if source in self._adapters:
            return SourcePreflight(name=name, is_adapter=True, is_local=Path(place.name).is_dir())
        try:
            facts = read_facts(place, home=self._home, allow_pickles=self._allow_pickles)
            return SourcePreflight(name=name, facts=facts, is_local=is_local(place, self._home))
        except CheckpointError as error:
            raw = catalog_config(source.name)
            known = (
                facts_from_config(ConfigFacts.from_config(raw, name), FactsOrigin.CATALOG) if raw else None
            )
            away = is_hub_unreachable(error)
            return SourcePreflight(
                name=name,
                facts=known,
                problem=None if away else str(error),
                unknown=str(error) if away else None,
            )


def _unplanned(recipe: Recipe, looked: _Sources, problems: list[str]) -> Preflight:
    """A recipe whose layers cannot even be counted."""
    blank = {"n_layers": None, "parameters": None, "dtype": None, "size_bytes": None, "memory_bytes": None}
    method = recipe.ordered[-1].method if recipe.ordered else "passthrough"
    return Preflight(
        stages=(StagePreflight(name="result", method=method, moves_bytes=recipe.is_copy, **blank),),
        sources=looked.found,
        parameters_from=None,
        embedding_parameters=None,
        layer_parameters=None,
        disk_bytes=None,
        download_bytes=looked.download_bytes,
        problems=tuple(problems),
        remarks=recipe.remarks,
        unknown=tuple(source.unknown for source in looked.found if source.unknown),
    )


def _disk(figures: tuple[StagePreflight, ...]) -> int | None:
    sizes = [stage.size_bytes for stage in figures]
    return None if None in sizes else sum(size for size in sizes if size is not None) + _MANIFEST_BYTES


def _remarks(stages: tuple[Stage, ...], looked: _Sources) -> Iterator[str]:
    for stage in stages:
        tensors = looked.names_in(stage)
        for text in idle_filters(stage, tensors) if tensors else ():
            yield f"The filter {text!r} does nothing: no tensor's name contains it."
        names = [
            name for name in dict.fromkeys(str(ref.source) for ref in stage.refs()) if name in looked.configs
        ]
        yield from conversions(stage, {name: looked.weights[name].dtype for name in names})
        if stage.tokenizer is None and len(names) > 1:
            # In a stack of slices only the embedding of the first and the head of the last source meet.
            meeting = [names[0], _last(stage)] if is_copy(stage) else names
            yield from tokenizer_differences(list(dict.fromkeys(meeting)), looked.vocabulary)
    for source in looked.found:
        if source.facts and source.facts.config.quantization:
            yield f"{source.name} has quantised weights ({source.facts.config.quantization})."
        if source.facts and source.facts.known_from is FactsOrigin.CATALOG:
            yield f"The figures of {source.name} are the catalogue's; its own config was not read."


def _last(stage: Stage) -> str:
    return str(stage.modules[0].groups()[-1].inputs[0].model.source)


def _unknown(
    stages: tuple[Stage, ...], figures: tuple[StagePreflight, ...], looked: _Sources
) -> Iterator[str]:
    yield from (source.unknown for source in looked.found if source.unknown)
    for stage, figure in zip(stages, figures, strict=True):
        if stage.tokenizer is not None:
            yield f"Stage {figure.name}: its vocabulary, and so its exact size, is known once the tokenizers are joined."
        if figure.n_layers is None:
            yield f"Stage {figure.name}: its layers, because those of a source are unknown."
        elif figure.parameters is None:
            yield f"Stage {figure.name}: its parameters, because those of a source are unknown or its layers differ."
        elif figure.size_bytes is None:
            yield f"Stage {figure.name}: its bytes, because the dtype of a source is unknown."
    for source in looked.found:
        if source.is_adapter:
            yield f"Whether the adapter {source.name} fits its checkpoint is known once it is loaded."
