"""Builds instead of live layer paths: the build job of a path's checkpoint, and the engine that serves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.plan.candidate import Candidate
from orchestrator.plan.job import BuildJob, CheckpointPlace, RecipeSource
from orchestrator.plan.shared_engines import SharedEngines
from orchestrator.plan.sweep import Sweep
from orchestrator.settings import Settings
from recipes.built_form import BuiltForms
from recipes.errors import BuildError
from recipes.layer_order import order_obstacle
from recipes.layer_path import LayerPath
from recipes.recipe import Recipe, SourceRef
from recipes.sources import PinnedSource, SourceFacts, parse, read_small_file
from recipes.visit_build import require_buildable


class PathBuilds:
    """Turns candidates whose layer path is live into candidates whose layer path is built; digests and scores are the same."""

    def __init__(self, sweep: Sweep, settings: Settings, shared: SharedEngines) -> None:
        self._sweep = sweep
        self._settings = settings
        self._shared = shared
        self._raw_configs: dict[str, dict[str, Any]] = {}
        self._forms: dict[str, BuiltForms] = {}

    def of(self, candidate: Candidate, facts: SourceFacts, where: str) -> Candidate:
        """The candidate, its layer path built. Raises LayerPathError or BuildError if no checkpoint can hold it.

        `facts` are those of the checkpoint `where`, whose layers, or those of a merge of its shape, the path visits.
        """
        assert candidate.layer_path is not None
        path = LayerPath.of_validated(candidate.layer_path, candidate.source_layers)
        merge = candidate.live_merge.build if candidate.live_merge else candidate.build
        along = Recipe.parse(merge.recipe).along(path) if merge is not None else None
        require_buildable(path, facts.tensor_names)
        obstacle = self._obstacle(path, facts, where)
        if obstacle is not None:
            raise BuildError(obstacle)
        live, place = None, candidate.place
        if merge is not None and along is not None:
            pins = {
                source.name: PinnedSource(reference=source.place, weights_digest=source.weights_digest)
                for source in merge.sources
            }
            build = self.job(along, pins)
            place = CheckpointPlace(artifact=build.digest)
        else:
            build = self._copy_job(path, where, candidate.weights_digest)
            shared = self._shared.host_of(path, build, facts, self._forms_of(facts, where))
            place, live = shared or (place, None)
        has_size = merge is None or candidate.parameters is not None
        return candidate.model_copy(
            update={
                "place": place,
                "build": build if live is None or live.from_files else None,
                "live_merge": live,
                "parameters": facts.parameters_along(path.source_layers) if has_size else None,
            }
        )

    def job(self, recipe: Recipe, pins: Mapping[str, PinnedSource]) -> BuildJob:
        """The job that builds a recipe's checkpoint in this sweep."""
        return build_job_of(
            recipe,
            pins,
            seed=self._sweep.build_seed,
            trust_remote_code=self._sweep.trust_remote_code,
            allow_pickles=self._sweep.allow_pickles,
        )

    def _copy_job(self, path: LayerPath, where: str, weights_digest: str) -> BuildJob:
        ref = SourceRef(name=where) if Path(where).is_dir() else SourceRef.parse(where)
        pins = {str(ref): PinnedSource(reference=where, weights_digest=weights_digest)}
        return self.job(Recipe.from_layer_path(ref, path), pins)

    def _obstacle(self, path: LayerPath, facts: SourceFacts, where: str) -> str | None:
        """Why no checkpoint with the path's order of layers can be built; None if it can."""
        raw = self._raw_config(where)
        return order_obstacle(raw, facts.tensor_names, path.source_layers, where) if raw else None

    def _raw_config(self, where: str) -> dict[str, Any]:
        """config.json of a checkpoint; empty if it has none."""
        if where not in self._raw_configs:
            text = read_small_file(parse(where, None), "config.json", home=self._settings.home)
            self._raw_configs[where] = {} if text is None else dict(json.loads(text))
        return self._raw_configs[where]

    def _forms_of(self, facts: SourceFacts, where: str) -> BuiltForms:
        if where not in self._forms:
            self._forms[where] = BuiltForms(self._raw_config(where), facts.tensor_names, where)
        return self._forms[where]


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
