"""Fields of a search file: what is searched, what is made better, at what cost and in which steps, as frozen values."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from evals.engine import EngineKind, Frozen, digest_of
from evals.probes import Split, probe_keys
from orchestrator.display.text_safety import StorableText
from orchestrator.plan.sweep import EngineEntry
from orchestrator.search.merges.fidelity import Fidelity
from orchestrator.search.merges.searched_path import SearchedPath
from orchestrator.search.merges.stopping import StopEntry


def _is_unset(value: object) -> bool:
    """Leaves a field out where it is unset, so that searches without it keep their digests."""
    return value is None


class SamplerKind(StrEnum):
    """How the next merge is proposed; all but `random` learn from those that were evaluated."""

    GP = "gp"
    TPE = "tpe"
    CMA_ES = "cma-es"
    RANDOM = "random"


class Rival(StrEnum):
    """A plain method that a search is compared with."""

    RANDOM = "random"
    GRID = "grid"


class Objective(Frozen):
    """One value to be made as large as possible: a probe, or benchmarks of a suite."""

    probe: StorableText | None = Field(
        default=None, description="Key of a probe: its value on the search set, 0 to 1."
    )
    suite: StorableText | None = Field(default=None, description="Name or file of a suite.")
    benchmarks: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Only these benchmarks of the suite; the value is the mean of their normalized scores, 0 to 1.",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="With `suite`: only the first documents of each subset; the confirmation asks the others.",
    )
    confirm_limit: int | None = Field(
        default=None,
        ge=2,
        description="With `suite`: the confirmation asks the documents of each subset from `limit` to this; null is five times `limit`.",
    )
    weight: float = Field(default=1.0, gt=0, description="Weight in the weighted mean of the objectives.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """A bare string is a probe's key."""
        return {"probe": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _probe_or_suite(self) -> Self:
        if (self.probe is None) == (self.suite is None):
            raise ValueError("give either `probe` or `suite`")
        settings = (self.benchmarks, self.limit, self.confirm_limit)
        if self.probe is not None and any(value is not None for value in settings):
            raise ValueError(
                "`benchmarks` and the limits are settings of a suite; a probe is always asked whole"
            )
        if self.suite is not None and self.limit is None:
            raise ValueError(
                "give `limit` as well: the confirmation asks the documents that the search leaves out"
            )
        if self.confirm_limit is not None and self.confirm_limit <= (self.limit or 0):
            raise ValueError("`confirm_limit` must be larger than `limit`, so that other documents are left")
        if self.probe is not None and self.probe not in probe_keys():
            raise ValueError(f"there is no probe {self.probe!r}; choose some of {', '.join(probe_keys())}")
        return self

    def limit_of(self, split: Split) -> int | None:
        """Documents of each subset that a suite is asked, from the first; for a confirmation, those of the search included."""
        if self.limit is None or split is Split.SEARCH:
            return self.limit
        return self.confirm_limit or 5 * self.limit

    @property
    def name(self) -> str:
        """Its name in tables."""
        if self.probe is not None:
            return self.probe
        return f"{self.suite}" if self.benchmarks is None else f"{self.suite}: {', '.join(self.benchmarks)}"


class SearchBudget(Frozen):
    """What a search may cost; exactly one of the three."""

    evaluations: int | None = Field(default=None, ge=2, le=100_000, description="Number of merges to try.")
    seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds of builds and evaluations, added over all engines and without engine starts, after which no further merge is proposed.",
    )
    gpu_hours: float | None = Field(
        default=None, gt=0, description="The same in hours, times the GPUs of an engine."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.evaluations, self.seconds, self.gpu_hours)) != 1:
            raise ValueError("give exactly one of evaluations, seconds, gpu_hours")
        return self


class ConfirmEntry(Frozen):
    """How the best merges are confirmed on questions that the search did not ask."""

    keep: int = Field(
        default=5, ge=1, le=100, description="Number of best merges to confirm; each further step keeps half."
    )
    suite: StorableText | None = Field(
        default=None, description="Suite whose benchmarks the confirmed merges are scored on."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Only the first documents of each subset of that suite."
    )

    @model_validator(mode="after")
    def _limit_needs_suite(self) -> Self:
        if self.limit is not None and self.suite is None:
            raise ValueError("`limit` is about the benchmarks of `suite`; name one")
        return self


class MergeSearch(Frozen):
    """Parsed content of a search file."""

    name: StorableText = Field(min_length=1, max_length=120, description="Name of the search.")
    base: StorableText = Field(
        min_length=1, description="The checkpoint that all differences are taken against."
    )
    recipe: dict[str, Any] | list[dict[str, Any]] = Field(
        description="A mergekit document, or a list of them for several stages; any number may be {search: [low, high]}."
    )
    sources: dict[str, str] = Field(
        default_factory=dict, description="Name in the recipe to checkpoint, where they differ."
    )
    layer_path: SearchedPath | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="A block of the merge's layers that is visited twice; its ends may be searched together with the numbers of `recipe`.",
    )
    objectives: tuple[Objective, ...] = Field(
        min_length=1, max_length=8, description="What is made as large as possible."
    )
    fidelity: Fidelity | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Smaller evaluations before the whole objectives; only promising merges go on. Null: every merge is asked everything.",
    )
    stop: StopEntry | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Stop asking a merge as soon as it is shown to be worse than the best one before it (`true` for the defaults); for one "
        "objective of one benchmark.",
    )
    pareto: bool = Field(
        default=False,
        description="Whether the merges that no other beats in every objective are searched, instead of the best weighted mean.",
    )
    budget: SearchBudget = Field(description="What the search may cost.")
    sampler: SamplerKind = Field(
        default=SamplerKind.GP,
        description="How the next merge is proposed: gp (Gaussian process), tpe, cma-es or random.",
    )
    seed: int = Field(default=0, ge=0, le=2**31, description="Seed of the proposals.")
    parallel: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Merges in work at once; null is one per GPU, or one per node without GPUs.",
    )
    compare_with: tuple[Rival, ...] = Field(
        default=(), description="Plain methods that get as many evaluations as the search."
    )
    confirm: ConfirmEntry = Field(
        default=ConfirmEntry(), description="Confirmation of the best on other questions."
    )
    engine: EngineEntry = Field(
        default=EngineEntry(kind=EngineKind.VLLM),
        description="The engine that all merges are evaluated with.",
    )
    chat_template: str = Field(
        default="auto", pattern="^(auto|on|off)$", description="auto: on where the base's tokenizer has one."
    )
    materialize: bool = Field(
        default=False, description="Whether merges are built even if they could run live in an open engine."
    )
    build_seed: int = Field(default=0, ge=0, description="Seed of merge methods that draw random numbers.")
    trust_remote_code: bool = Field(
        default=False, description="Whether code that comes with a checkpoint may run."
    )
    allow_pickles: bool = Field(default=False, description="Whether pickled weights may be read.")

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_by_default(cls, value: Any) -> Any:
        """`true` means the defaults, `false` no early stops."""
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_benchmark_decides(self) -> Self:
        first = self.objectives[0]
        if self.stop is not None and (len(self.objectives) > 1 or len(first.benchmarks or ()) != 1):
            raise ValueError(
                "stop: a merge that loses on one benchmark can still win on several together; give one objective with one of `benchmarks`"
            )
        return self

    @field_validator("chat_template", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: Any) -> Any:
        """YAML reads a bare on or off as true or false."""
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _objectives_fit(self) -> Self:
        names = [objective.name for objective in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError("an objective is named twice; name each once")
        if self.pareto and len(names) < 2:
            raise ValueError("a Pareto front needs at least two objectives")
        if self.pareto and self.sampler is SamplerKind.CMA_ES:
            raise ValueError("cma-es searches one value; with `pareto` choose gp, tpe or random")
        if len(set(self.compare_with)) < len(self.compare_with):
            raise ValueError("`compare_with` names a method twice")
        return self

    def together(self, values: tuple[float, ...]) -> float:
        """Weighted mean of the objectives' values."""
        weights = [objective.weight for objective in self.objectives]
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    @property
    def identity(self) -> str:
        """Digest of all that decides which merges are tried, and of the length of the search."""
        return digest_of(self)
