"""Commands that repeat a job exactly: a sweep of this job with everything that its digest covers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import Field

from evals.engine import AUTO_ATTENTION, EngineSpec, Frozen
from evals.execution import CPU_ATTENTION
from evals.scores import Seeds
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.store.records import CandidateRecord, RunRecord
from recipes.errors import RecipeError
from recipes.layer_path import LayerPath
from recipes.yaml_text import load_yaml

_RUN = "mergeboard run job.yaml"


def base_of(run: RunRecord) -> str | None:
    """The base in a run's sweep file; None if it cannot be read."""
    try:
        sweep = load_yaml(run.sweep, "sweep").data
    except RecipeError:
        return None
    base = sweep.get("base") if isinstance(sweep, dict) else None
    return base if isinstance(base, str) else None


def repeat_command(
    job: BuildJob | EvalJob, candidate: CandidateRecord | None, base: str | None, build: BuildJob | None
) -> str | None:
    """A shell script that repeats the job; None if no command line covers all that its result depends on.

    `base` is the base of the run's sweep, `build` the job that built the evaluated checkpoint, or would build a live merge. The
    script uses a home folder of its own, because a finished job is not run again.
    """
    if isinstance(job, BuildJob):
        return _build_script(job)
    name = (candidate.name if candidate else "repeated")[:120]
    if job.place.artifact is not None or job.live_merge is not None:
        if build is None or base is None:
            return None
        sweep = _sweep(job, base, [{"name": name, "file": "recipe.yaml"}], [build])
        return "\n".join([_file("recipe.yaml", build.recipe), _file("job.yaml", sweep), _at_home(job, _RUN)])
    # A layer path refers to the checkpoint it was applied to, which can differ from the sweep's base.
    recipes = [] if job.layer_path is None else [{"name": name, "layer_path": list(job.layer_path)}]
    sweep = _sweep(job, job.place.label, recipes, [])
    return "\n".join([_file("job.yaml", sweep), _at_home(job, _RUN)])


class EvaluatedSide(Frozen):
    """A candidate with one of its evaluation jobs and, if it is a merge, the job that builds it."""

    candidate: CandidateRecord = Field(description="The candidate.")
    job: EvalJob = Field(description="One of its evaluations.")
    build: BuildJob | None = Field(
        default=None,
        description="The job that built its checkpoint, or would build a live merge; null for others.",
    )
    benchmarks: tuple[str, ...] = Field(default=(), description="Benchmarks of the job's suite that it has.")


def together_command(sides: Sequence[EvaluatedSide], base: str | None) -> str | None:
    """A shell script that evaluates all sides in one sweep, with the settings of the first one's job.

    `base` is the base of the run's sweep. None if no sweep can say it: no base, or a build without its job.
    """
    places = [side.job.place.name for side in sides if side.build is None and side.job.place.name is not None]
    place = next(iter(places), base)
    if place is None or any(side.job.place.artifact is not None and side.build is None for side in sides):
        return None
    texts: list[str] = []
    recipes: list[dict[str, Any]] = []
    for number, side in enumerate(sides, start=1):
        name = side.candidate.name[:120]
        if side.build is not None:
            file = f"recipe-{number}.yaml"
            texts.append(_file(file, side.build.recipe))
            recipes.append({"name": name, "file": file})
        elif side.job.layer_path is not None:
            recipes.append({"name": name, "layer_path": path_text(side.candidate, None)})
    builds = [side.build for side in sides if side.build is not None]
    benchmarks = tuple(dict.fromkeys(name for side in sides for name in side.benchmarks))
    sweep = _sweep(sides[0].job, place, recipes, builds, benchmarks=benchmarks, both=True)
    return "\n".join([*texts, _file("sweep.yaml", sweep), "mergeboard run sweep.yaml"])


def path_command(
    candidate: CandidateRecord, base: str | None, n_layers: int | None, suites: Sequence[str]
) -> str:
    """Commands that build a layer path, and that evaluate it without a build."""
    path = path_text(candidate, n_layers)
    source = shlex.quote(base or "CHECKPOINT")
    folder = shlex.quote(f"./{_slug(candidate.name)}")
    lines = [f"mergeboard build {shlex.quote(path)} --base {source} --out {folder}"]
    lines += [f"mergeboard eval {source} --layer-path {shlex.quote(path)} --suite {s}" for s in suites]
    return "\n".join(lines)


def path_text(candidate: CandidateRecord, n_layers: int | None) -> str:
    """A candidate's layer path in its shortest notation."""
    if candidate.layer_path is None:
        return "baseline"
    deepest = max(candidate.layer_path) + 1
    path = LayerPath(layers=candidate.layer_path, n_layers=max(n_layers or 0, deepest))
    # Without the number of layers, a block could be mistaken for one of a shallower checkpoint.
    return path.label if n_layers is not None else path.canonical


def _sweep(
    job: EvalJob,
    base: str,
    recipes: list[dict[str, Any]],
    builds: Sequence[BuildJob],
    *,
    benchmarks: Sequence[str] = (),
    both: bool = False,
) -> str:
    """A sweep with the settings of a job; with `both`, the base is scored as well."""
    suite: dict[str, Any] = {"suite": job.suite, "benchmarks": list(benchmarks) or [job.benchmark]}
    if job.settings.limit is not None:
        suite["limit"] = job.settings.limit
    values: dict[str, Any] = {"name": "both" if both else f"repeat {job.digest}", "base": base}
    if recipes:
        values |= {"recipes": recipes}
        if not both:
            values |= {"score_base": False}
    values |= {
        "suites": [suite],
        "engines": [_engine(job.engine)],
        "chat_template": job.settings.chat_template.value,
    }
    if job.settings.seeds != Seeds():
        values["seeds"] = job.settings.seeds.model_dump()
    if job.engine.trust_remote_code:
        values["trust_remote_code"] = True
    if builds:
        values["sources"] = {s.name: s.place for b in builds for s in b.sources if s.name != s.place}
        values["build_seed"] = builds[0].seed
        values["allow_pickles"] = any(build.allow_pickles for build in builds)
        values["materialize"] = job.layer_path is not None
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _engine(spec: EngineSpec) -> dict[str, Any]:
    """The engine for the sweep; version and device depend on the machine that repeats the job."""
    engine: dict[str, Any] = {"kind": spec.kind.value, "dtype": spec.dtype}
    if spec.kv_cache_dtype != "auto":
        engine["kv_cache_dtype"] = spec.kv_cache_dtype
    # Without it, the planner would choose a value for the cluster.
    engine["tensor_parallel"] = spec.tensor_parallel
    if spec.execution is not None:
        engine["execution"] = spec.execution.value
    if spec.attention_backend not in (None, AUTO_ATTENTION, CPU_ATTENTION):
        engine["attention_backend"] = spec.attention_backend
    if spec.batch_invariant:
        engine["batch_invariant"] = True
    if spec.max_length is not None:
        engine["max_length"] = spec.max_length
    return engine


def _build_script(job: BuildJob) -> str | None:
    if job.seed or job.allow_pickles or job.trust_remote_code:
        return None
    named = [shlex.quote(f"{s.name}={s.place}") for s in job.sources if s.name != s.place]
    words = ["mergeboard build recipe.yaml --out", f"./{job.digest}", *(f"--source {text}" for text in named)]
    return "\n".join([_file("recipe.yaml", job.recipe), _at_home(job, " ".join(words))])


def _at_home(job: BuildJob | EvalJob, command: str) -> str:
    """The command with a new home folder and store."""
    return f'env -u MERGEBOARD_DATABASE_URL MERGEBOARD_HOME="$PWD/repeat-{job.digest}" {command}'


def _file(name: str, text: str) -> str:
    """A shell command that writes a text to a file; the delimiter never occurs in the text."""
    mark = "END"
    while f"\n{mark}\n" in f"\n{text}\n":
        mark += "_"
    return f"cat > {name} <<'{mark}'\n{text.rstrip()}\n{mark}"


def _slug(name: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "checkpoint"
