"""The two kinds of job and their identity.

A job's digest covers everything that affects its result and nothing else: the location of the weights, batch
sizes and placement are excluded. A live layer path and the same path built as a checkpoint share one digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter

from evals.engine import EngineSpec, EngineTuning, Frozen, digest_of
from evals.scores import PROBE_SUITE, EvalSettings
from evals.stats.sequence import LookPlan
from evals.suite import Suite
from recipes.layer_visit import Layers


class JobKind(StrEnum):
    """What a job does."""

    BUILD = "build"
    EVAL = "eval"


class CheckpointPlace(Frozen):
    """Location of the weights; exactly one of the two fields is set. Not part of any identity."""

    name: str | None = Field(
        default=None, description="Local directory, embedded name, or hub id as `repo@sha`."
    )
    artifact: str | None = Field(default=None, description="Digest of the artifact of a build job.")

    @property
    def label(self) -> str:
        """Text for display and for keys."""
        return self.name or f"artifact {self.artifact}"


class RecipeSource(Frozen):
    """One source of a recipe, pinned."""

    name: str = Field(description="The source as the recipe names it.")
    place: str = Field(description="Local directory, embedded name, or `repo@sha`.")
    weights_digest: str = Field(description="Digest of its weights, or its pinned commit on the hub.")


class BuildJob(Frozen):
    """Build one recipe as a checkpoint directory."""

    kind: Literal[JobKind.BUILD] = JobKind.BUILD
    recipe: str = Field(description="The recipe's canonical text.")
    recipe_digest: str = Field(
        description="Digest of the recipe over its sources' weights; names the artifact."
    )
    sources: tuple[RecipeSource, ...] = Field(description="The recipe's sources, pinned.")
    seed: int = Field(default=0, description="Seed of merge methods that draw random numbers.")
    trust_remote_code: bool = Field(default=False, description="Whether code from a source may run.")
    allow_pickles: bool = Field(default=False, description="Whether pickled weights may be read.")

    @property
    def digest(self) -> str:
        """The artifact's digest."""
        return self.recipe_digest

    @property
    def needs(self) -> tuple[str, ...]:
        """Empty: a build depends on no other job."""
        return ()

    @property
    def waits(self) -> tuple[str, ...]:
        """Empty: a build waits for no other job."""
        return ()

    @property
    def artifacts(self) -> tuple[str, ...]:
        """Empty: a build reads no artifact."""
        return ()


def _is_unset(value: object) -> bool:
    """Leaves a field out of the identity of jobs without it."""
    return value is None


def _is_false(value: object) -> bool:
    """Leaves a field out of what is stored of jobs without it."""
    return value is False


class LiveMerge(Frozen):
    """A merge, or a built layer path, whose weights the engine of another checkpoint takes over. Not part of any identity."""

    build: BuildJob = Field(description="The recipe, as the job that builds it or would build it.")
    opened_digest: str = Field(
        description="Digest of the weights of the checkpoint that the engine is opened with; of a built layer path, of its source."
    )
    opened_with: str | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Artifact of the layer path that the engine is opened with; null for a merge.",
    )
    from_files: bool = Field(
        default=False,
        exclude_if=_is_false,
        description="Whether the weights are read from the files that `build` wrote; otherwise they are made of the sources.",
    )

    @property
    def weights_digest(self) -> str:
        """Names the weights among those that an engine may hold."""
        return f"recipe:{self.build.digest}"


class BenchmarkIdentity(Frozen):
    """A benchmark with all that its scores depend on except the weights, the layer path and the engine.

    Base class of the planned benchmark, the evaluation job and the stored protocol.
    """

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark in it, or of the probe.")
    benchmark_digest: str = Field(description="Digest of the benchmark's definition.")
    dataset_digest: str = Field(description="Digest that identifies the data set's content, as far as known.")
    settings: EvalSettings = Field(description="Chat template, BOS, limit and seeds.")
    scorer: str = Field(description="Versions of the harness and scorers.")

    def identity_fields(self) -> dict[str, Any]:
        """The fields of this class only, as arguments for another subclass."""
        return {name: getattr(self, name) for name in BenchmarkIdentity.model_fields}


class Decide(Frozen):
    """When an evaluation may stop early: when its comparison with the base is decided."""

    plan: LookPlan = Field(description="When the comparison is looked at, and by which rule.")
    against: str = Field(description="Digest of the base's evaluation, which is whole.")
    after: str | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Digest of the candidate's evaluation before this one: if it is worse there, nothing is asked here. Null if none.",
    )
    items: tuple[int, ...] | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Items of the probe that are asked, ascending: a part, after which a race decides who is asked the others. Null for a benchmark.",
    )
    part: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        exclude_if=_is_unset,
        description="Share of the benchmark's documents that is asked: a part, after which the candidates' race decides who is asked the "
        "others. Null for an evaluation that is decided against the base.",
    )


# Fields on which an evaluation's result does not depend.
_NOT_IDENTITY = {"place", "live_layers", "live_merge", "tuning", "alone", "kind"}


class EvalJob(BenchmarkIdentity):
    """Score one benchmark on one checkpoint, or on one layer path of it."""

    kind: Literal[JobKind.EVAL] = JobKind.EVAL
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that builds them.")
    layer_path: Layers | None = Field(
        default=None, description="Visits of source layers in order; null means all layers, once each."
    )
    engine: EngineSpec = Field(description="The engine and its settings.")
    place: CheckpointPlace = Field(description="Location of the weights (not identity).")
    live_layers: Layers | None = Field(
        default=None,
        description="Layer path that the engine applies; null if built into the weights (not identity).",
    )
    live_merge: LiveMerge | None = Field(
        default=None,
        description="Merge or built layer path that the engine's weights are replaced by (not identity).",
    )
    tuning: EngineTuning = Field(
        default_factory=EngineTuning, description="Speed and memory settings (not identity)."
    )
    decide: Decide | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="When it may stop early; null for a whole evaluation, whose identity is that of one without this field.",
    )
    alone: bool = Field(
        default=False,
        description="Whether the job needs its own batch, after one that broke its engine (not identity).",
    )

    @cached_property
    def digest(self) -> str:
        """Identity of the result."""
        return digest_of(self.model_dump(mode="json", exclude=_NOT_IDENTITY))

    @property
    def needs(self) -> tuple[str, ...]:
        """Digests of the builds whose files are read, and of the evaluations that an early stop depends on, if any."""
        if self.decide is None:
            return self.artifacts
        return (*self.artifacts, self.decide.against, *self.waits)

    @property
    def waits(self) -> tuple[str, ...]:
        """Those of `needs` that only have to end: a candidate's evaluation before this one, whose failure decides nothing."""
        return (self.decide.after,) if self.decide is not None and self.decide.after else ()

    @property
    def artifacts(self) -> tuple[str, ...]:
        """Digests of the build jobs whose files are read: those of the engine's checkpoint and of the weights that it takes over."""
        opened = (self.place.artifact,) if self.place.artifact else ()
        live = self.live_merge
        return (*opened, live.build.digest) if live is not None and live.from_files else opened

    @property
    def whole(self) -> EvalJob:
        """The same evaluation without an early stop; its journal serves both."""
        return self if self.decide is None else self.model_copy(update={"decide": None})

    @cached_property
    def engine_key(self) -> str:
        """Jobs with the same key can be served by one engine, one after another."""
        return digest_of({"place": self.place.model_dump(), "engine": self.engine.digest})

    @property
    def opened_digest(self) -> str:
        """Digest of the weights in `place`, which the engine is opened with."""
        return self.live_merge.opened_digest if self.live_merge else self.weights_digest

    @property
    def is_probe(self) -> bool:
        """Whether the job evaluates a probe instead of a benchmark."""
        return self.suite == PROBE_SUITE

    @cached_property
    def batch_key(self) -> str | None:
        """Jobs with the same key differ only in their layer path and may share a batch; None: no batching."""
        if not self.is_probe or self.alone:
            return None
        paths = {"layer_path", "live_layers"}
        return f"{self.engine_key} {digest_of(self.model_dump(mode='json', exclude=paths))}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with updated fields; its cached keys are recomputed."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("digest", "engine_key", "batch_key"):
            copied.__dict__.pop(name, None)
        return copied


Job = Annotated[BuildJob | EvalJob, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[BuildJob | EvalJob] = TypeAdapter(Job)


def job_from_json(text: str) -> BuildJob | EvalJob:
    """Parse a job from the store's JSON."""
    return _ADAPTER.validate_json(text)


class BaseSamples(Frozen):
    """The samples file of the base that an evaluation is decided against."""

    path: str = Field(description="Parquet file, relative to MERGEBOARD_HOME.")
    sha256: str = Field(description="sha256 of that file.")


class Task(Frozen):
    """One attempt at one job."""

    attempt_id: str = Field(description="Id of the attempt in the store.")
    job: BuildJob | EvalJob = Field(description="What to do.", discriminator="kind")
    suite: Suite | None = Field(
        default=None,
        description="The definition of a user's suite; null for shipped suites, probes and builds.",
    )
    base: BaseSamples | None = Field(
        default=None, description="The base's samples, for an evaluation that may stop early."
    )
