"""Expands recipes into candidates: named, pinned, with a build job if the weights must be built."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from evals.engine import Frozen
from orchestrator.errors import SweepError
from orchestrator.plan.capacity import ClusterFacts
from orchestrator.plan.job import BuildJob, CheckpointPlace, LiveMerge, RecipeSource
from orchestrator.plan.live_merges import LiveHost, LiveMerges, NotLive
from orchestrator.plan.shared_engines import SharedEngines
from orchestrator.plan.sweep import RecipeEntry, SweepFile
from orchestrator.settings import Settings
from recipes.built_form import BuiltForms
from recipes.catalog import load_catalog
from recipes.errors import BuildError, LayerPathError, RecipeError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_order import order_obstacle
from recipes.layer_path import LayerPath, LayerPathSpec
from recipes.layer_visit import Layers, variant_of
from recipes.origin import MadeFrom, joined, source_entry
from recipes.recipe import Recipe, SourceRef
from recipes.sources import PinnedSource, SourceFacts, describe, parse, pin, read_small_file
from recipes.visit_build import require_buildable

BASE_NAME = "base"
_MAX_CANDIDATES = 100_000


class Candidate(Frozen):
    """One row of the result tables: the base, or one recipe."""

    name: str = Field(description="Name in tables.")
    is_base: bool = Field(default=False, description="Whether the others are compared with this one.")
    place: CheckpointPlace = Field(description="Location of its weights.")
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that makes them.")
    layer_path: Layers | None = Field(
        default=None,
        description="Visits of source layers in order; null if it is not a layer path. A visit that is not whole is a text, "
        "for example `5:attention`.",
    )
    source_layers: int = Field(default=0, description="Layers of the checkpoint that the path refers to.")
    recipe: str | None = Field(default=None, description="Canonical text of its recipe, if it has one.")
    build: BuildJob | None = Field(
        default=None, description="The job that builds its weights, if one is needed."
    )
    live_merge: LiveMerge | None = Field(
        default=None,
        description="The merge, or the built layer path, whose weights the engine of the checkpoint at `place` takes over.",
    )
    built_because: str | None = Field(
        default=None, description="Why a merge is built, if it is not by request; the end of a sentence."
    )
    layers: int | None = Field(default=None, description="Number of layers, if known.")
    parameters: int | None = Field(default=None, description="Number of parameters, if known.")
    quantization: str | None = Field(
        default=None, description="Quantization method of its stored weights; null if they are not quantized."
    )
    stored_bytes: int | None = Field(
        default=None, description="Bytes of its quantized weights; null if unknown or not quantized."
    )
    made_from: tuple[MadeFrom, ...] = Field(
        default=(),
        description="What its weights were made from: sources of its recipe, and what those were built from.",
    )
    remarks: tuple[str, ...] = Field(
        default=(), description="Warnings about its recipe, for example settings without effect."
    )


def quantization_method(facts: SourceFacts) -> str | None:
    """Quantization method of a checkpoint's stored weights; None if they are not quantized."""
    return facts.config.quantized.method if facts.config.quantized else None


def quantized_bytes(facts: SourceFacts, layers: int) -> int | None:
    """Bytes of quantized weights with this many layers; None if unknown or not quantized."""
    return facts.bytes_of(layers) if facts.config.quantized else None


def _parameters(facts: SourceFacts, path: LayerPath, *, live: bool) -> int | None:
    """Parameters of a layer path: a live one counts what its visits run, files hold whole layers."""
    return facts.parameters_of_visits(path.layers) if live else facts.parameters_along(path.source_layers)


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


def build_job_of(
    recipe: Recipe,
    pins: Mapping[str, PinnedSource],
    *,
    seed: int = 0,
    trust_remote_code: bool = False,
    allow_pickles: bool = False,
) -> BuildJob:
    """The job that builds a recipe's checkpoint."""
    return BuildJob(
        recipe=recipe.canonical_text,
        recipe_digest=recipe.digest({name: source.weights_digest for name, source in pins.items()}, seed),
        sources=tuple(
            RecipeSource(name=name, place=source.reference, weights_digest=source.weights_digest)
            for name, source in pins.items()
        ),
        seed=seed,
        trust_remote_code=trust_remote_code,
        allow_pickles=allow_pickles,
    )


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
        self._shared = shared
        self._raw_configs: dict[str, dict[str, Any]] = {}
        self._forms: dict[str, BuiltForms] = {}
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
        place = CheckpointPlace(name=source.reference) if source else self._base.place
        weights = source.weights_digest if source else self._base.weights_digest
        build, live = None, None
        if not path.is_baseline and not self._live:
            require_buildable(path, facts.tensor_names)
            reference = place.name or ""
            self._require_buildable(reference, facts, path)
            ref = SourceRef(name=reference) if Path(reference).is_dir() else SourceRef.parse(reference)
            build = self._build_job(
                Recipe.from_layer_path(ref, path),
                {str(ref): PinnedSource(reference=reference, weights_digest=weights)},
            )
            shared = self._shared.host_of(path, build, facts, self._forms_of(reference, facts))
            if shared is not None:
                place, live = shared
                build = build if live.from_files else None
        return Candidate(
            name=name,
            place=place,
            weights_digest=weights,
            layer_path=None if path.is_baseline else path.layers,
            source_layers=path.n_layers,
            recipe=path.canonical,
            build=build,
            live_merge=live,
            layers=len(path.layers),
            parameters=_parameters(facts, path, live=self._live),
            quantization=quantization_method(facts),
            stored_bytes=quantized_bytes(facts, len(path.layers)),
            made_from=facts.made_from,
        )

    def _raw_config(self, reference: str) -> dict[str, Any]:
        """config.json of a source; empty if it has none."""
        if reference not in self._raw_configs:
            text = read_small_file(parse(reference, None), "config.json", home=self._settings.home)
            self._raw_configs[reference] = {} if text is None else dict(json.loads(text))
        return self._raw_configs[reference]

    def _forms_of(self, reference: str, facts: SourceFacts) -> BuiltForms:
        if reference not in self._forms:
            self._forms[reference] = BuiltForms(self._raw_config(reference), facts.tensor_names, reference)
        return self._forms[reference]

    def _require_buildable(self, reference: str, facts: SourceFacts, path: LayerPath) -> None:
        """Raise BuildError for a path of which no checkpoint can be built."""
        raw = self._raw_config(reference)
        obstacle = order_obstacle(raw, facts.tensor_names, path.source_layers, reference) if raw else None
        if obstacle is not None:
            raise BuildError(
                f"{obstacle} A path that cannot be built can still run live: `try_live: true` lets the engine's self-check decide."
            )

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
        job = self._build_job(recipe, pins)
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
                "parameters": merge.parameters and _parameters(self._facts, path, live=live),
            }
        )
        if live or recipe is None:
            return along
        require_buildable(path, self._facts.tensor_names)
        self._require_buildable(self._base.place.name or "", self._facts, path)
        pins = {s.name: PinnedSource(reference=s.place, weights_digest=s.weights_digest) for s in job.sources}
        build = self._build_job(recipe, pins)
        place = CheckpointPlace(artifact=build.digest)
        return along.model_copy(update={"build": build, "live_merge": None, "place": place})

    def _build_job(self, recipe: Recipe, pins: Mapping[str, PinnedSource]) -> BuildJob:
        sweep = self._sweep
        return build_job_of(
            recipe,
            pins,
            seed=sweep.build_seed,
            trust_remote_code=sweep.trust_remote_code,
            allow_pickles=sweep.allow_pickles,
        )
