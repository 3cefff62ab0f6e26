"""What a recipe is made of, and the commands that repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from dashboard.repeat import EvaluatedSide, path_command, together_command
from orchestrator.display.format import parameters
from orchestrator.display.text_safety import line
from orchestrator.plan.job import BuildJob
from orchestrator.store.records import CandidateRecord, RunRecord
from recipes.errors import RecipeError
from recipes.layer_path import LayerPath
from recipes.layer_visit import is_whole_path, source_layers_of
from recipes.recipe import Recipe


def read_recipe(candidate: CandidateRecord) -> Recipe | None:
    """The recipe of a merge; None for a checkpoint, for a layer path, and for a text that is no recipe."""
    if candidate.recipe is None or candidate.layer_path is not None:
        return None
    try:
        return Recipe.parse(candidate.recipe)
    except RecipeError:
        return None


def recipe_text(candidate: CandidateRecord, base: str | None, n_layers: int | None) -> str | None:
    """The recipe as a file that `mergeboard build` reads; None for an unchanged checkpoint."""
    if candidate.layer_path is not None:
        n = max([n_layers or 1, *(layer + 1 for layer in source_layers_of(candidate.layer_path))])
        label = LayerPath(layers=candidate.layer_path, n_layers=n).label
        return f'base: {line(base or "CHECKPOINT", 300)}\nlayer_path: "{label}"\n'
    return candidate.recipe


def made_of(
    candidate: CandidateRecord, recipe: Recipe | None, build: BuildJob | None, base: str | None
) -> dict[str, str]:
    """Names and values: method, sources with their revisions, size, digest."""
    facts = {"Method": _method(candidate, recipe)}
    if build is not None:
        for source in build.sources:
            place = line(source.place, 120)
            name = f"{line(source.name, 80)}, from {place}" if source.name != source.place else place
            facts[f"Source {len(facts)}"] = f"{name}; weights {line(source.weights_digest, 80)}"
    elif base is not None:
        facts["Source"] = line(base, 160)
    if recipe is not None and recipe.ordered:
        stage = recipe.ordered[-1]
        if stage.base is not None:
            facts["Base of the merge"] = line(str(stage.base), 120)
        facts["Precision"] = stage.out_dtype or stage.dtype or "that of the sources"
    facts["Layers"] = str(candidate.layers) if candidate.layers is not None else "–"
    facts["Parameters"] = parameters(candidate.parameters)
    facts["Weights digest"] = line(candidate.weights_digest, 120)
    if build is not None:
        facts["Build job"] = build.digest
        facts["Build seed"] = str(build.seed)
    return facts


def _method(candidate: CandidateRecord, recipe: Recipe | None) -> str:
    if candidate.layer_path is not None:
        some = "" if is_whole_path(candidate.layer_path) else ", some in part or damped"
        return f"layer path: layers of one checkpoint, in another order{some}; no weight is changed"
    if recipe is not None and recipe.ordered:
        names = [stage.method for stage in recipe.ordered]
        return names[0] if len(names) == 1 else f"{names[-1]}, after {len(names) - 1} earlier stages"
    return "a recipe that this version cannot read" if candidate.recipe else "an unchanged checkpoint"


def commands(
    run: RunRecord,
    candidate: CandidateRecord,
    base: CandidateRecord,
    sides: Sequence[EvaluatedSide],
    place: str | None,
    suites: Sequence[str],
    n_layers: int | None,
) -> Mapping[str, str]:
    """Shell commands by what they do."""
    found: dict[str, str] = {}
    build = sides[-1].build if sides else None
    again = together_command(sides, place) if sides else None
    if again is not None:
        found["Plan it and run it again, with the base and with the settings of this run"] = again.replace(
            "mergeboard run sweep.yaml", "mergeboard plan sweep.yaml\nmergeboard run sweep.yaml"
        )
    if candidate.layer_path is not None:
        found["Build it, or evaluate it without a build"] = path_command(candidate, place, n_layers, suites)
    elif build is not None:
        named = [f"--source {shlex.quote(f'{s.name}={s.place}')}" for s in build.sources if s.name != s.place]
        words = " ".join(["mergeboard build recipe.yaml --out ./checkpoint", *named])
        evals = [f"mergeboard eval ./checkpoint --suite {shlex.quote(suite)}" for suite in suites]
        found["Build it from its text above, saved as recipe.yaml, and evaluate it"] = "\n".join(
            [words, *evals]
        )
    name = shlex.quote(candidate.name)
    dashes = "-- " if candidate.name.startswith("-") else ""
    if not candidate.is_base:
        found["Compare it with its base"] = (
            f"mergeboard compare --base {shlex.quote(base.name)} --run {run.id} {dashes}{name}"
        )
    found["Write its card"] = "\n".join(
        f"mergeboard card --run {run.id} --suite {shlex.quote(suite)} --format model-index {dashes}{name}"
        for suite in suites
    )
    return {title: text for title, text in found.items() if text}
