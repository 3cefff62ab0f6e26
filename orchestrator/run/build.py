"""`mergeboard build`: builds one recipe outside any run and copies the artifact to a directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from orchestrator.errors import SweepError
from orchestrator.plan.candidates import pin_sources
from orchestrator.plan.job import BuildJob
from orchestrator.plan.path_builds import build_job_of
from orchestrator.settings import Settings, WorkerContext
from orchestrator.store.records import Failure
from orchestrator.worker.worker import run_build
from recipes.artifact import ArtifactStore
from recipes.artifact_manifest import Artifact
from recipes.atomic_file import write_file
from recipes.build_readme import CONFIG_NAME, README_NAME, config_text, readme_text
from recipes.byte_copy import copy_file
from recipes.catalog import catalog_names, load_catalog
from recipes.checkpoint import Checkpoint
from recipes.checkpoint_files import ORIGIN_NAME
from recipes.errors import BuildError
from recipes.file_hash import file_sha256
from recipes.layer_path import LayerPathSpec
from recipes.origin import write_origin
from recipes.recipe import Recipe, SourceRef
from recipes.sources import describe, resolve
from recipes.visit_build import require_buildable

Watched = Callable[[str, Path], AbstractContextManager[None]]
"""Digest of a build and the folder of journals -> what shows its progress."""


class Built(Frozen):
    """Result of `mergeboard build`."""

    path: Path = Field(description="The output directory.")
    layers: int = Field(description="Layers of the checkpoint.")
    parameters: int = Field(description="Number of parameters.")
    size_bytes: int = Field(description="Size on disk in bytes.")
    how: str = Field(description="Whether it was built now or earlier, as a phrase.")
    duration_s: float = Field(description="Wall-clock seconds.")
    notes: tuple[str, ...] = Field(
        default=(), description="What mergekit ignores in the recipe, or what an older one meant by it."
    )


def build_to(
    recipe: str,
    out: Path,
    settings: Settings,
    *,
    base: str | None,
    sources: list[str],
    watched: Watched = lambda digest, journals: contextlib.nullcontext(),
) -> Built:
    """Build a recipe (file, catalogue name, or layer path of `base`) and copy it to `out`.

    A second call reuses the artifact. `watched` is entered while it builds. Raises SweepError, RecipeError or BuildError.
    """
    started = time.monotonic()
    parsed = read_recipe(recipe, base).with_sources(dict(parse_source(text) for text in sources))
    job = build_job(parsed, settings)
    store = ArtifactStore(settings.artifacts)
    existing = store.lookup(job.digest)
    _check_out(out, existing, settings.home / "cache")
    if existing is None:
        context = WorkerContext(home=str(settings.home), datasets=None)
        with watched(job.digest, settings.journals):
            outcome = run_build(context, f"build-{job.digest}-{os.getpid()}", job)
        if isinstance(outcome, Failure):
            raise BuildError(outcome.message)
    with store.lease(job.digest):
        artifact = store.verify(job.digest)
        _copy(artifact, out)
    _describe(job, out, settings)
    how = "built" if existing is None else "was built before"
    return _report(out, artifact, how, time.monotonic() - started, parsed.remarks)


def build_job(recipe: Recipe, settings: Settings) -> BuildJob:
    """The build job of a recipe given on the command line."""
    pins = pin_sources(recipe, Path.cwd(), settings)
    facts = {name: describe(source, home=settings.home) for name, source in pins.items()}
    layers = {name: source.config.n_layers for name, source in facts.items()}
    as_path = recipe.as_layer_path(layers)
    if as_path is not None:
        require_buildable(as_path[1], facts[str(as_path[0])].tensor_names)
    return build_job_of(recipe.resolved(layers), pins)


def read_recipe(recipe: str, base: str | None) -> Recipe:
    """A recipe file, a layer path of `base`, or a recipe of the catalogue."""
    if Path(recipe).is_file():
        return Recipe.load(Path(recipe))
    if base is not None:
        ref = SourceRef(name=base) if Path(base).is_dir() else SourceRef.parse(base)
        return Recipe.from_layer_path(ref, LayerPathSpec.parse(recipe))
    if recipe not in catalog_names():
        raise SweepError(
            f"{recipe} is neither a recipe file nor a name of the catalogue ({', '.join(catalog_names())}); "
            "for a layer path name its checkpoint with --base."
        )
    return load_catalog(recipe).recipe


def parse_source(text: str) -> tuple[str, str]:
    """Split `NAME=REPO@SHA` into (name, checkpoint); SweepError if it has another form."""
    name, equals, target = text.partition("=")
    if not (name and equals and target):
        raise SweepError(f"--source {text}: write NAME=REPO@SHA, for example my-model=org/name@0123abc.")
    return name, target


def _check_out(out: Path, artifact: Artifact | None, cache: Path) -> None:
    """Raise SweepError if the directory exists and does not hold exactly this checkpoint."""
    if not out.exists():
        return
    files = artifact.manifest.files if artifact else ()
    same = bool(files) and all(
        (out / f.name).is_file()
        and (out / f.name).stat().st_size == f.size_bytes
        and file_sha256(out / f.name, cache) == f.sha256
        for f in files
    )
    if not same:
        raise SweepError(
            f"{out} exists and is not this recipe's checkpoint; give another --out, or delete it first."
        )


def _copy(artifact: Artifact, out: Path) -> None:
    """Copy the artifact's files to `out` atomically, without sharing inodes.

    Edits of the copy must not change the artifact: reflinks where the file system has them, else byte copies.
    """
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{out.name}.{os.getpid()}"
    try:
        for file in artifact.manifest.files:
            target = temporary / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(artifact.path / file.name, target)
        temporary.rename(out)
    except OSError as error:
        raise BuildError(
            f"{out} cannot be written ({error.strerror}); free some space or give another --out."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _describe(job: BuildJob, out: Path, settings: Settings) -> None:
    """Write the recipe and a README beside the weights, as mergekit-yaml does; files that are there stay.

    Artifacts of earlier versions lack the record of what they were made from, which is added to the copy.
    """
    if not (out / ORIGIN_NAME).exists():
        folders = {
            s.place: (s.weights_digest, resolve(s.place, None, home=settings.home)) for s in job.sources
        }
        write_origin(out, job.digest, folders)
    recipe = Recipe.parse(job.recipe, origin=f"recipe {job.digest}")
    checkpoint = Checkpoint.open(out)
    texts = {
        CONFIG_NAME: config_text(recipe),
        README_NAME: readme_text(
            recipe, out.resolve().name, layers=checkpoint.n_layers, parameters=checkpoint.parameters or 0
        ),
    }
    for name, text in texts.items():
        if not (out / name).exists():
            write_file(out / name, text.encode())


def _report(out: Path, artifact: Artifact, how: str, duration_s: float, notes: tuple[str, ...]) -> Built:
    checkpoint = Checkpoint.open(out)
    return Built(
        path=out,
        layers=checkpoint.n_layers,
        parameters=checkpoint.parameters or 0,
        size_bytes=artifact.size_bytes,
        how=how,
        duration_s=duration_s,
        notes=notes,
    )
