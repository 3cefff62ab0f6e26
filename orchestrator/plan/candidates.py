"""Expands recipes into candidates: named, pinned, with a build job if the weights must be built."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import SweepError
from orchestrator.plan.candidate import Candidate, quantization_method, quantized_bytes
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.job import CheckpointPlace, LiveMerge
from orchestrator.plan.live_merges import LiveHost, LiveMerges, NotLive
from orchestrator.plan.path_builds import PathBuilds
from orchestrator.plan.shared_engines import SharedEngines
from orchestrator.plan.sweep import RecipeEntry, SweepFile
from orchestrator.settings import Settings
from recipes.catalog import load_catalog
from recipes.errors import BuildError, LayerPathError, RecipeError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath, LayerPathSpec
from recipes.layer_visit import Layers, variant_of
from recipes.origin import joined, source_entry
from recipes.recipe import Recipe
from recipes.sources import PinnedSource, SourceFacts, describe, pin

BASE_NAME = "base"
_MAX_CANDIDATES = 100_000


def absolute_place(name: str, folder: Path) -> str:
    """A local directory as an absolute path; any other name unchanged."""
    path = (folder / name).expanduser()
    return str(path) if path.is_dir() else name


def pin_sources(recipe: Recipe, folder: Path, settings: Settings) -> dict[str, PinnedSource]:
    """Pin every source of a recipe; the keys are the names in the recipe."""
    return {
        str(source): pin(absolute_place(source.name, folder), source.revision, home=settings.home)
        for source in recipe.sources
    }


class Expander:
    """Turns the entries of `recipes` into candidates."""

    def __init__(
        self,
        file: SweepFile,
        settings: Settings,
        base: Candidate,
        facts: SourceFacts,
        *,
        live: bool,
        shared: SharedEngines,
        cluster: ClusterFacts | None = None,
    ) -> None:
        self._file = file
        self._sweep = file.sweep
        self._settings = settings
        self._base = base
        self._facts = facts
        self._live = live
        self._builds = PathBuilds(file.sweep, settings, shared)
        self._cluster = cluster

    def candidates(self) -> Iterator[Candidate]:
        """One candidate per recipe; a grid expands to many."""
        count = 0
        for position, entry in enumerate(self._sweep.recipes):
            try:
                for candidate in self._expand(entry, position):
                    count += 1
                    if count > _MAX_CANDIDATES:
                        raise SweepError(
                            f"{self._file.place('recipes')}: more than {_MAX_CANDIDATES:,} recipes; split the sweep."
                        )
                    yield candidate
            except RecipeError as error:
                raise SweepError(f"{self._file.place('recipes', position)}: {error}") from error

    def _expand(self, entry: RecipeEntry, position: int) -> Iterator[Candidate]:
        if entry.grid is not None:
            for path in LayerPathGrid.parse(entry.grid).paths(self._facts.config.n_layers):
                if not path.is_baseline:
                    yield self._from_path(path, path.label)
        elif entry.layer_path is not None and not entry.is_merge:
            path = LayerPathSpec.parse(entry.layer_path).resolve(self._facts.config.n_layers)
            yield self._from_path(path, entry.name or path.label)
        elif entry.checkpoint is not None:
            yield self._from_checkpoint(entry.checkpoint, entry.name or entry.checkpoint)
        else:
            recipe, name = self._read(entry, position)
            candidate = self._from_recipe(recipe, name, materialize=entry.materialize)
            yield candidate if entry.layer_path is None else self._along(candidate, entry.layer_path)

    def _from_path(
        self, path: LayerPath, name: str, source: PinnedSource | None = None, facts: SourceFacts | None = None
    ) -> Candidate:
        """A layer path of the base or of another source; its weights digest is the source's."""
        facts = facts or self._facts
        candidate = Candidate(
            name=name,
            place=CheckpointPlace(name=source.reference) if source else self._base.place,
            weights_digest=source.weights_digest if source else self._base.weights_digest,
            layer_path=None if path.is_baseline else path.layers,
            source_layers=path.n_layers,
            recipe=path.canonical,
            layers=len(path.layers),
            parameters=facts.parameters_of_visits(path.layers),
            quantization=quantization_method(facts),
            stored_bytes=quantized_bytes(facts, len(path.layers)),
            made_from=facts.made_from,
        )
        is_as_planned = self._live or path.is_baseline
        return candidate if is_as_planned else self._built(candidate, facts, candidate.place.name or "")

    def _built(self, candidate: Candidate, facts: SourceFacts, where: str) -> Candidate:
        """The candidate, its layer path built; a BuildError says that it might still run live."""
        try:
            return self._builds.of(candidate, facts, where)
        except BuildError as error:
            raise BuildError(
                f"{error} A path that cannot be built can still run live: `try_live: true` lets the engine's self-check decide."
            ) from error

    def _from_checkpoint(self, checkpoint: str, name: str) -> Candidate:
        """A checkpoint as it is, of any architecture."""
        host = self._host(checkpoint)
        source, facts = host.source, host.facts
        return Candidate(
            name=name,
            place=host.place,
            weights_digest=source.weights_digest,
            layers=facts.config.n_layers,
            parameters=facts.parameters,
            quantization=quantization_method(facts),
            stored_bytes=quantized_bytes(facts, facts.config.n_layers),
            made_from=facts.made_from,
        )

    def _host(self, checkpoint: str) -> LiveHost:
        """A checkpoint of the sweep, which has an engine in the plan."""
        name_of_source = self._sweep.sources.get(checkpoint, checkpoint)
        source = pin(absolute_place(name_of_source, Path(self._file.folder)), None, home=self._settings.home)
        facts = describe(source, home=self._settings.home, allow_pickles=self._sweep.allow_pickles)
        return LiveHost(place=CheckpointPlace(name=source.reference), source=source, facts=facts)

    @functools.cached_property
    def _live_merges(self) -> LiveMerges:
        """Which merges the engines of the base and of the other checkpoints can run live."""
        base = PinnedSource(reference=self._base.place.name or "", weights_digest=self._base.weights_digest)
        hosts = [LiveHost(place=self._base.place, source=base, facts=self._facts)]
        hosts += [self._host(entry.checkpoint) for entry in self._sweep.recipes if entry.checkpoint]
        return LiveMerges(self._sweep, hosts, self._settings, self._cluster)

    def _read(self, entry: RecipeEntry, position: int) -> tuple[Recipe, str]:
        if entry.catalog is not None:
            return load_catalog(entry.catalog).recipe, entry.name or entry.catalog
        if entry.file is not None:
            path = Path(self._file.folder) / entry.file
            return Recipe.load(path), entry.name or path.stem
        assert entry.mergekit is not None
        return Recipe.from_data(
            entry.mergekit, origin=f"recipes.{position}.mergekit"
        ), entry.name or f"recipe-{position + 1}"

    def _from_recipe(self, recipe: Recipe, name: str, *, materialize: bool) -> Candidate:
        recipe = recipe.with_sources(self._sweep.sources)
        pins = pin_sources(recipe, Path(self._file.folder), self._settings)
        pickles = self._sweep.allow_pickles
        adapters = set(map(str, recipe.adapters))
        facts = {
            name: describe(source, home=self._settings.home, allow_pickles=pickles)
            for name, source in pins.items()
            if name not in adapters
        }
        layers = {name: f.config.n_layers for name, f in facts.items()}
        dtypes = {name: f.single_dtype for name, f in facts.items() if f.single_dtype}
        as_path = recipe.as_layer_path(layers, dtypes)
        if as_path is not None:
            source, path = as_path
            pinned = pins[str(source)]
            same = pinned.weights_digest == self._base.weights_digest
            return self._from_path(path, name, None if same else pinned, facts[str(source)])
        job = self._builds.job(recipe, pins)
        made_from = joined(
            [
                *(source_entry(pin.reference, pin.weights_digest) for pin in pins.values()),
                *(entry for source in facts.values() for entry in source.made_from),
            ]
        )
        by_request = materialize or self._sweep.materialize
        host = None if by_request else self._live_merges.host_of(recipe, pins, facts)
        if isinstance(host, LiveHost):
            return Candidate(
                name=name,
                place=host.place,
                weights_digest=f"recipe:{job.digest}",
                recipe=recipe.canonical_text,
                live_merge=LiveMerge(build=job, opened_digest=host.source.weights_digest),
                layers=host.facts.config.n_layers,
                parameters=host.facts.parameters,
                made_from=made_from,
                remarks=tuple(recipe.remarks),
            )
        methods = {quantization_method(f) for f in facts.values()}
        return Candidate(
            name=name,
            place=CheckpointPlace(artifact=job.digest),
            weights_digest=f"recipe:{job.digest}",
            recipe=recipe.canonical_text,
            build=job,
            built_because=host.reason if isinstance(host, NotLive) else None,
            layers=recipe.n_layers(layers),
            # Copied layers keep their quantization; quantized weights cannot be merged.
            quantization=methods.pop() if len(methods) == 1 else None,
            made_from=made_from,
            remarks=tuple(recipe.remarks),
        )

    def _along(self, merge: Candidate, text: str | Layers) -> Candidate:
        """A layer path over the layers of a merge: live where both can be, else built as one more stage.

        Its weights digest is that of the merge, as the one of a path of a checkpoint is the checkpoint's.
        """
        job = merge.live_merge.build if merge.live_merge else merge.build
        if job is None or merge.layers is None or merge.layer_path is not None:
            raise LayerPathError(
                f"{merge.name} is no merge with a known number of layers, so that no layer path can be laid over it: give the path alone."
            )
        path = LayerPathSpec.parse(text).resolve(merge.layers)
        if path.is_baseline:
            return merge
        live = merge.live_merge is not None and self._live
        holds = not any(variant_of(visit).factor != 1 for visit in path.layers)
        recipe = Recipe.parse(job.recipe).along(path) if holds or not live else None
        along = merge.model_copy(
            update={
                "layer_path": path.layers,
                "source_layers": path.n_layers,
                "layers": len(path.layers),
                "recipe": recipe.canonical_text if recipe else merge.recipe,
                "parameters": merge.parameters and self._facts.parameters_of_visits(path.layers),
            }
        )
        return along if live else self._built(along, self._facts, self._base.place.name or "")
