"""Recipe: everything that determines a checkpoint, with a digest."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from recipes.errors import LayerPathError, RecipeSyntaxError
from recipes.layer_path import LayerPath, LayerPathSpec
from recipes.layer_visit import variant_runs
from recipes.outside_file import read_file
from recipes.recipe.depth import copied_layer_path, is_copy, source_layers, stage_layers
from recipes.recipe.documents import PathOf, read_documents
from recipes.recipe.identity import (
    canonical_stages,
    digest_data,
    digest_stages,
    dump_documents,
    numbered_names,
)
from recipes.recipe.node import quoted
from recipes.recipe.normal import as_text, document
from recipes.recipe.order import ordered_stages
from recipes.recipe.refs import ModelRef, SourceKind, SourceRef
from recipes.recipe.stage import Input, Module, Remark, Slice, Stage
from recipes.tensor_file import Frozen
from recipes.visit_build import slice_parameters
from recipes.yaml_text import YamlDocument, load_yaml_documents

MAX_TEXT = 500_000
"""Maximum length of a recipe in characters; the longest published ones have tens of thousands."""


class Recipe(Frozen):
    """A merge of one or more stages, or a layer path of a base."""

    stages: tuple[Stage, ...] = Field(default=(), description="Stages as written; empty for a layer path.")
    path_of: PathOf | None = Field(default=None, description="Base and layer path; null for a merge.")
    notes: tuple[Remark, ...] = Field(default=(), description="Settings that mergekit ignores.")

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if bool(self.stages) == bool(self.path_of):
            raise RecipeSyntaxError(
                "A recipe is either one or more merge stages or a base with a layer path."
            )
        if self.stages:
            ordered_stages(self.stages)  # raises for duplicate names and cycles
        return self

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe file. Raises RecipeSyntaxError."""
        try:
            data = read_file(Path(path), MAX_TEXT)
        except OSError as error:
            raise RecipeSyntaxError(f"{path} cannot be read ({error.strerror}): check the path.") from error
        return cls.parse(data, origin=str(path))

    @classmethod
    def parse(cls, text: str | bytes, origin: str = "recipe") -> Recipe:
        """Parse one or several mergekit documents (as in mergekit-multi), or `base` and `layer_path`."""
        if len(text) > MAX_TEXT:
            raise RecipeSyntaxError(
                f"{origin} has {len(text):,} characters; a recipe has at most {MAX_TEXT:,}."
            )
        return cls._of_documents(load_yaml_documents(text, origin), origin)

    @classmethod
    def from_data(cls, data: object, origin: str = "recipe") -> Recipe:
        """Read a recipe from plain data: one document, or a list of stages."""
        documents = data if isinstance(data, list) else [data]
        return cls._of_documents([YamlDocument(document_) for document_ in documents], origin)

    @classmethod
    def from_layer_path(cls, base: SourceRef, path: LayerPath | LayerPathSpec) -> Recipe:
        """Recipe of a layer path; a resolved path becomes a passthrough merge of its ranges.

        Raises LayerPathError for a path with damped visits, which no checkpoint holds.
        """
        if isinstance(path, LayerPathSpec):
            return cls(path_of=PathOf(base=base, path=path))
        model = ModelRef(source=base)
        slices = tuple(
            Slice(inputs=(Input(model=model, layers=(a, b), parameters=slice_parameters(variant)),))
            for a, b, variant in variant_runs(path.layers)
        )
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
        """Stages that the result depends on, in build order; the last one is the result."""
        return ordered_stages(self.stages) if self.stages else ()

    @functools.cached_property
    def stage_names(self) -> frozenset[str]:
        """Names of the stages."""
        return frozenset(stage.name for stage in self.stages if stage.name)

    @functools.cached_property
    def sources(self) -> tuple[SourceRef, ...]:
        """Source checkpoints and adapters, in the order of first mention."""
        if self.path_of:
            return (self.path_of.base,)
        refs = [ref for stage in self.ordered for ref in stage.refs()]
        sources = [source for ref in refs for source in (ref.source, ref.adapter) if source]
        return tuple(dict.fromkeys(source for source in sources if source.name not in self.stage_names))

    @property
    def adapters(self) -> tuple[SourceRef, ...]:
        """LoRA adapters among the sources."""
        refs = (ref for stage in self.ordered for ref in stage.refs())
        return tuple(dict.fromkeys(ref.adapter for ref in refs if ref.adapter))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Everything that mergekit accepts and ignores, one sentence each."""
        return (*(str(note) for note in self.notes), *self._stage_remarks())

    def _stage_remarks(self) -> list[str]:
        used = {stage.name for stage in self.ordered}
        remarks = [
            f"Stage {quoted(stage.name or '')} is not used by the result and is not built."
            for stage in self.stages
            if stage.name not in used
        ]
        for source in self.sources if len(self.stages) > 1 else ():
            if source.kind is SourceKind.BARE:
                matches = difflib.get_close_matches(source.name, self.stage_names, n=1, cutoff=0.5)
                hint = f"; the nearest stage is {quoted(matches[0])}" if matches else ""
                remarks.append(f"{quoted(source.name)} is neither a stage of this recipe nor org/name{hint}.")
        return remarks

    def with_sources(self, mapping: Mapping[str, SourceRef | str]) -> Recipe:
        """Replace sources by other sources or by the names of stages."""
        targets = {name: _as_source(target) for name, target in mapping.items()}

        def replace_source(source: SourceRef) -> SourceRef:
            return targets.get(str(source)) or targets.get(source.name) or source

        def replace_ref(ref: ModelRef) -> ModelRef:
            adapter = replace_source(ref.adapter) if ref.adapter else None
            return ref.model_copy(update={"source": replace_source(ref.source), "adapter": adapter})

        if self.path_of:
            path_of = PathOf(base=replace_source(self.path_of.base), path=self.path_of.path)
            return Recipe(path_of=path_of, notes=self.notes)
        return Recipe(stages=tuple(stage.map_refs(replace_ref) for stage in self.stages), notes=self.notes)

    def along(self, path: LayerPath) -> Recipe:
        """The recipe whose result visits the layers of this merge in the order of `path`, as one more stage.

        Raises LayerPathError for a path with damped visits, which no checkpoint holds.
        """
        result = self.ordered[-1]
        taken = {*self.stage_names, *(source.name for source in self.sources)}
        name = result.name or next(
            n for n in ("merged", *(f"merged-{k}" for k in range(99))) if n not in taken
        )
        copy = Recipe.from_layer_path(SourceRef(name=name), path)
        return Recipe(stages=(*self.ordered[:-1], result.model_copy(update={"name": name}), *copy.stages))

    @property
    def is_copy(self) -> bool:
        """Whether all stages only copy layers; a conversion to another dtype is allowed."""
        return all(is_copy(stage) for stage in self.ordered)

    @functools.cached_property
    def canonical(self) -> list[dict[str, Any]]:
        """Normal form as plain data: equal for equivalent recipes; `from_data` reads it back."""
        if self.path_of:
            return [{"base": str(self.path_of.base), "layer_path": self.path_of.path.text}]
        return canonical_stages(self.ordered, numbered_names(self.ordered, self.sources))

    @property
    def canonical_text(self) -> str:
        """Normal form as YAML; `parse` reads it back."""
        return dump_documents(self.canonical)

    def digest(self, weights: Mapping[str, str], seed: int = 0) -> str:
        """Digest of the result: normal form with each source replaced by its weights digest; 16 hex digits.

        `weights` maps each source, as text or by its name alone, to its weights digest. The seed is included if a
        method is random. Raises RecipeSyntaxError if a digest is missing.
        """

        def weights_of(source: SourceRef) -> str:
            digest = weights.get(str(source), weights.get(source.name))
            if digest is None:
                raise RecipeSyntaxError(
                    f"The recipe has no digest yet: the weights digest of {source} is not known."
                )
            return digest

        if self.path_of:
            return digest_data([weights_of(self.path_of.base), self.path_of.path.text])
        return digest_stages(self.ordered, numbered_names(self.ordered, self.sources), weights_of, seed)

    def resolved(self, layers: Mapping[str, int]) -> Recipe:
        """Convert a layer path into a passthrough merge; other recipes are returned unchanged.

        Raises LayerPathError if the number of layers of the base is unknown.
        """
        if not self.path_of:
            return self
        base, path = self.path_of.base, self.path_of.path
        count = source_layers(base, layers)
        if count is None:
            raise LayerPathError(f"The number of layers of {base} is not known; {path.text} needs it.")
        return Recipe.from_layer_path(base, path.resolve(count))

    def n_layers(self, layers: Mapping[str, int]) -> int | None:
        """Number of layers of the result, None if unknown. Raises RecipeSyntaxError for a range outside its source."""
        if self.path_of:
            count = source_layers(self.path_of.base, layers)
            return None if count is None else len(self.path_of.path.resolve(count).layers)
        return stage_layers(self.ordered, layers)[-1]

    def as_layer_path(
        self, layers: Mapping[str, int], dtypes: Mapping[str, str] | None = None
    ) -> tuple[SourceRef, LayerPath] | None:
        """Source and layer path of a recipe that only copies layers of one source; None for others.

        A recipe with a dtype qualifies only if `dtypes` states that all weights of the source have it.
        """
        if self.path_of:
            count = source_layers(self.path_of.base, layers)
            return None if count is None else (self.path_of.base, self.path_of.path.resolve(count))
        return copied_layer_path(self.ordered[0], layers, dtypes or {}) if len(self.ordered) == 1 else None

    def mergekit_documents(self) -> list[tuple[str, str]]:
        """Stage name and mergekit YAML of each stage, in build order. Raises LayerPathError for an unresolved layer path."""
        if self.path_of:
            raise LayerPathError(
                f"{self.path_of.path.text} has no mergekit document before the number of layers of its base is known."
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
