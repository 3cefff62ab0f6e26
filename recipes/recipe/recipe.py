"""Recipe: all that determines a checkpoint, as a value with a digest."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from recipes.errors import LayerPathError, RecipeSyntaxError
from recipes.layer_path import LayerPath, LayerPathSpec
from recipes.outside_file import read_file
from recipes.recipe.depth import copied_path, is_copy, known_layers, stage_layers
from recipes.recipe.documents import PathOf, read_documents
from recipes.recipe.identity import canonical_stages, digest_data, digest_stages, dump_documents, plain_names
from recipes.recipe.node import quoted
from recipes.recipe.normal import as_text, document
from recipes.recipe.order import ordered_stages
from recipes.recipe.refs import ModelRef, SourceKind, SourceRef
from recipes.recipe.stage import Input, Module, Remark, Slice, Stage
from recipes.tensor_file import Frozen
from recipes.yaml_text import YamlDocument, load_yaml_documents

MAX_TEXT = 500_000
"""Longest recipe that is read, in characters; the longest published ones have some tens of thousands."""


class Recipe(Frozen):
    """A merge of one or many stages, or a layer path of a base."""

    stages: tuple[Stage, ...] = Field(
        default=(), description="The stages as they are written; empty for a path."
    )
    path_of: PathOf | None = Field(default=None, description="Base and layer path, where that is the recipe.")
    notes: tuple[Remark, ...] = Field(default=(), description="What the text says and mergekit ignores.")

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if bool(self.stages) == bool(self.path_of):
            raise RecipeSyntaxError(
                "A recipe is either one or more merge stages or a base with a layer path."
            )
        if self.stages:
            ordered_stages(self.stages)  # refuses stages that clash or need each other
        return self

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe file."""
        try:
            data = read_file(Path(path), MAX_TEXT)
        except OSError as error:
            raise RecipeSyntaxError(f"{path} cannot be read ({error.strerror}): check the path.") from error
        return cls.parse(data, origin=str(path))

    @classmethod
    def parse(cls, text: str | bytes, origin: str = "recipe") -> Recipe:
        """Read a mergekit document, several of them (as mergekit-multi takes them), or `base` and `layer_path`."""
        if len(text) > MAX_TEXT:
            raise RecipeSyntaxError(
                f"{origin} has {len(text):,} characters; a recipe has at most {MAX_TEXT:,}."
            )
        return cls._of_documents(load_yaml_documents(text, origin), origin)

    @classmethod
    def from_data(cls, data: object, origin: str = "recipe") -> Recipe:
        """Read a recipe that is already plain data: one document, or a list of stages."""
        documents = data if isinstance(data, list) else [data]
        return cls._of_documents([YamlDocument(one) for one in documents], origin)

    @classmethod
    def from_layer_path(cls, base: SourceRef, path: LayerPath | LayerPathSpec) -> Recipe:
        """The recipe of a layer path; one that is resolved is a passthrough merge of its runs."""
        if isinstance(path, LayerPathSpec):
            return cls(path_of=PathOf(base=base, path=path))
        model = ModelRef(source=base)
        slices = tuple(Slice(inputs=(Input(model=model, layers=run),)) for run in path.runs())
        return cls(stages=(Stage(method="passthrough", modules=(Module(slices=slices),)),))

    @classmethod
    def _of_documents(cls, documents: list[YamlDocument], origin: str) -> Recipe:
        contents = read_documents(documents, origin)
        try:
            recipe = cls(stages=contents.stages, path_of=contents.path_of, notes=contents.remarks)
            return recipe.with_sources(contents.mapped) if contents.mapped else recipe
        except RecipeSyntaxError as error:
            raise RecipeSyntaxError(f"{origin}: {error}") from None

    @functools.cached_property
    def ordered(self) -> tuple[Stage, ...]:
        """The stages that the result needs, each after those that it uses; the last one is the result."""
        return ordered_stages(self.stages) if self.stages else ()

    @functools.cached_property
    def stage_names(self) -> frozenset[str]:
        """Names that mean a stage of this recipe."""
        return frozenset(stage.name for stage in self.stages if stage.name)

    @functools.cached_property
    def sources(self) -> tuple[SourceRef, ...]:
        """Every checkpoint from outside, adapters included, in the order of first mention."""
        if self.path_of:
            return (self.path_of.base,)
        refs = [ref for stage in self.ordered for ref in stage.refs()]
        found = [source for ref in refs for source in (ref.source, ref.adapter) if source]
        return tuple(dict.fromkeys(source for source in found if source.name not in self.stage_names))

    @property
    def adapters(self) -> tuple[SourceRef, ...]:
        """Those of the sources that are LoRA adapters."""
        refs = (ref for stage in self.ordered for ref in stage.refs())
        return tuple(dict.fromkeys(ref.adapter for ref in refs if ref.adapter))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Everything in the text that mergekit takes in and ignores, one sentence each."""
        return (*(str(note) for note in self.notes), *self._stage_remarks())

    def _stage_remarks(self) -> list[str]:
        used = {stage.name for stage in self.ordered}
        found = [
            f"Stage {quoted(stage.name or '')} is not used by the result and is not built."
            for stage in self.stages
            if stage.name not in used
        ]
        for source in self.sources if len(self.stages) > 1 else ():
            if source.kind is SourceKind.BARE:
                near = difflib.get_close_matches(source.name, self.stage_names, n=1, cutoff=0.5)
                hint = f"; the nearest stage is {quoted(near[0])}" if near else ""
                found.append(f"{quoted(source.name)} is neither a stage of this recipe nor org/name{hint}.")
        return found

    def with_sources(self, mapping: Mapping[str, SourceRef | str]) -> Recipe:
        """The recipe with names replaced: a source by another, or what was meant as a stage by that stage's name."""
        targets = {name: _as_source(target) for name, target in mapping.items()}

        def of_source(source: SourceRef) -> SourceRef:
            return targets.get(str(source)) or targets.get(source.name) or source

        def of_ref(ref: ModelRef) -> ModelRef:
            adapter = of_source(ref.adapter) if ref.adapter else None
            return ref.model_copy(update={"source": of_source(ref.source), "adapter": adapter})

        if self.path_of:
            path_of = PathOf(base=of_source(self.path_of.base), path=self.path_of.path)
            return Recipe(path_of=path_of, notes=self.notes)
        return Recipe(stages=tuple(stage.mapped(of_ref) for stage in self.stages), notes=self.notes)

    @property
    def is_copy(self) -> bool:
        """Whether layers are only copied (and perhaps converted to another dtype), nothing computed."""
        return all(is_copy(stage) for stage in self.ordered)

    @functools.cached_property
    def canonical(self) -> list[dict[str, Any]]:
        """The normal form as data; recipes that say the same are equal here, and `from_data` reads it back."""
        if self.path_of:
            return [{"base": str(self.path_of.base), "layer_path": self.path_of.path.text}]
        return canonical_stages(self.ordered, plain_names(self.ordered, self.sources))

    @property
    def canonical_text(self) -> str:
        """The normal form as YAML, which `parse` reads back."""
        return dump_documents(self.canonical)

    def digest(self, weights: Mapping[str, str], seed: int = 0) -> str:
        """Identity of the result: 16 hex digits over the normal form, each source replaced by its weights.

        `weights` has the weights digest of each source under its text, or under its name alone. The seed counts
        where a method is random.
        """

        def of(source: SourceRef) -> str:
            found = weights.get(str(source), weights.get(source.name))
            if found is None:
                raise RecipeSyntaxError(
                    f"The weights of {source} are not known, so the recipe has no digest yet."
                )
            return found

        if self.path_of:
            return digest_data([of(self.path_of.base), self.path_of.path.text])
        return digest_stages(self.ordered, plain_names(self.ordered, self.sources), of, seed)

    def resolved(self, layers: Mapping[str, int]) -> Recipe:
        """A layer path turned into the passthrough merge that it is, now that its base's layers are known."""
        if not self.path_of:
            return self
        base, path = self.path_of.base, self.path_of.path
        count = known_layers(base, layers)
        if count is None:
            raise LayerPathError(f"The number of layers of {base} is not known, which {path.text} needs.")
        return Recipe.from_layer_path(base, path.resolve(count))

    def n_layers(self, layers: Mapping[str, int]) -> int | None:
        """Layers of the result, where those of the sources tell; refuses ranges that leave a source."""
        if self.path_of:
            count = known_layers(self.path_of.base, layers)
            return None if count is None else len(self.path_of.path.resolve(count).layers)
        return stage_layers(self.ordered, layers)[-1]

    def as_layer_path(
        self, layers: Mapping[str, int], dtypes: Mapping[str, str] | None = None
    ) -> tuple[SourceRef, LayerPath] | None:
        """The source and layer path that this is, where it only copies layers of one source; otherwise None.

        A recipe that names a dtype is one only where `dtypes` says that all weights of the source have it already.
        """
        if self.path_of:
            count = known_layers(self.path_of.base, layers)
            return None if count is None else (self.path_of.base, self.path_of.path.resolve(count))
        return copied_path(self.ordered[0], layers, dtypes or {}) if len(self.ordered) == 1 else None

    def mergekit_documents(self) -> list[tuple[str, str]]:
        """(stage name, YAML) of each stage in order, for mergekit; a symbolic layer path has none before `resolved`."""
        if self.path_of:
            raise LayerPathError(
                f"{self.path_of.path.text} is no mergekit document until its base's layers are known."
            )
        return [
            (
                stage.name or "result",
                dump_documents([document(stage.model_copy(update={"name": None}), as_text)]),
            )
            for stage in self.ordered
        ]


def _as_source(target: SourceRef | str) -> SourceRef:
    return SourceRef.parse(target) if isinstance(target, str) else target
