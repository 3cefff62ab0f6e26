"""The sweep file: recipes x suites x engines against one base, as a frozen value.

```yaml
name: my-sweep
base: demo/SmolLM2-135M-Instruct      # a directory, an embedded name, or org/name@commit
recipes:
  - grid: "all"                       # every (i, j) of the base; filters: "i=0:30:5 j=0:30:5 max_added=8"
  - {name: twice, layer_path: "(0, 30)"}
  - {name: merged, file: merge.yaml}  # a mergekit document; or inline under `mergekit:`; or `catalog: NAME`
  - {name: theirs, checkpoint: org/name@commit}
suites: [smoke]                       # or my-suite.yaml, a task of lm-eval, or {tasks: [arc_easy], limit: 100}
engines: [vllm]                       # or {kind: vllm, dtype: float16, execution: eager, batch_invariant: true}
```
All candidates of a sweep are scored by the same engines, each in one execution mode: on GPUs vLLM replays CUDA graphs without
torch.compile, whether a layer path is live or built, so that their scores differ by weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from evals.engine import EngineKind, ExecutionMode, Frozen
from evals.race_rule import RaceRule
from evals.scores import Seeds
from evals.suite_file import SuiteRequest
from orchestrator.display.text_safety import StorableText
from orchestrator.plan.fields_file import parse_fields, place_of, read_fields
from recipes.errors import RecipeError
from recipes.layer_path import LayerPathSpec
from recipes.layer_visit import Layers


def _is_unset(value: object) -> bool:
    """Leaves a field out where it is unset, so that sweeps without it keep their digests."""
    return not value


class RecipeEntry(Frozen):
    """One line of `recipes`: exactly one of the six ways to name a recipe; a merge may have a layer path besides."""

    name: StorableText | None = Field(
        default=None, min_length=1, max_length=120, description="How tables call it."
    )
    layer_path: str | Layers | None = Field(
        default=None,
        description="`(i, j)`, blocks, ranges, or a list of layers. A visit can be followed by `:attention`, `:mlp` or "
        "`:damped=0.5`; after a block it applies to the second pass: `(i, j):attention`. Beside a merge it is a path over the merge's layers.",
    )
    grid: str | None = Field(
        default=None,
        description="Many (i, j) in one line; `variant=attention` and others as in `layer_path`.",
    )
    mergekit: dict[str, Any] | list[dict[str, Any]] | None = Field(
        default=None, description="A mergekit document, or a list of them for several stages."
    )
    file: StorableText | None = Field(
        default=None, description="A file with a mergekit document, beside the sweep file."
    )
    catalog: StorableText | None = Field(default=None, description="Name of a recipe of the catalogue.")
    checkpoint: StorableText | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="A checkpoint as it is: a directory, an embedded name, or `org/name@commit`.",
    )

    materialize: bool = Field(
        default=False,
        exclude_if=_is_unset,
        description="Whether a merge is built even if it could run live.",
    )

    @property
    def is_merge(self) -> bool:
        """Whether it names a merge, with or without a layer path over it."""
        return bool(self.mergekit or self.file or self.catalog)

    @model_validator(mode="before")
    @classmethod
    def _short_block(cls, value: Any) -> Any:
        """A bare string is a layer path."""
        return {"layer_path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        names = ("layer_path", "grid", "mergekit", "file", "catalog", "checkpoint")
        kinds = [name for name in names if getattr(self, name) is not None]
        merges = ("mergekit", "file", "catalog")
        over_merge = len(kinds) == 2 and kinds[0] == "layer_path" and kinds[1] in merges
        if len(kinds) != 1 and not over_merge:
            raise ValueError(f"give exactly one of {', '.join(names)} (found {', '.join(kinds) or 'none'})")
        if self.materialize and kinds[-1] not in merges:
            raise ValueError(
                "only a merge has `materialize`; set it for the whole sweep to build layer paths"
            )
        if self.grid is not None and self.name is not None:
            raise ValueError("a grid names its layer paths itself; leave `name` out")
        if self.layer_path is not None:
            try:
                LayerPathSpec.parse(self.layer_path)
            except RecipeError as error:
                raise ValueError(str(error)) from error
        return self


class SuiteEntry(Frozen):
    """One suite to score, whole or in part: by name or file, or as tasks of lm-eval."""

    suite: StorableText = Field(
        default="",
        description="A suite's name or file, a folder of task files, or a task or group of lm-eval by name.",
    )
    name: StorableText | None = Field(
        default=None, exclude_if=_is_unset, description="Name of a suite that is made of tasks."
    )
    tasks: tuple[StorableText, ...] = Field(
        default=(), exclude_if=_is_unset, description="Tasks and groups of lm-eval, or of `include`, by name."
    )
    include: StorableText | None = Field(
        default=None, exclude_if=_is_unset, description="Folder of task files of your own."
    )
    allow_code: tuple[StorableText, ...] = Field(
        default=(), exclude_if=_is_unset, description="Tasks whose own Python may run, by name."
    )
    benchmarks: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Only these benchmarks of it."
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first documents of each subset.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """A bare string is the suite's name."""
        return {"suite": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _suite_or_tasks(self) -> Self:
        if bool(self.suite) == bool(self.tasks):
            raise ValueError("give either `suite` or `tasks`")
        return self

    @property
    def request(self) -> SuiteRequest:
        """What names the suite, without what is scored of it."""
        return SuiteRequest(
            suite=self.suite or None,
            tasks=self.tasks,
            include=self.include,
            allow_code=self.allow_code,
            name=self.name,
        )


class EngineEntry(Frozen):
    """One engine to score with. Omitted fields are chosen for the machine."""

    kind: EngineKind = Field(description="vllm or transformers.")
    dtype: str = Field(
        default="bfloat16",
        pattern="^(bfloat16|float16|float32)$",
        description="Dtype of weights and activations.",
    )
    kv_cache_dtype: str = Field(default="auto", description="Dtype of the KV cache.")
    tensor_parallel: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="GPUs that share each layer; null is the fewest of the cluster's that hold every checkpoint of the sweep.",
    )
    max_length: int | None = Field(
        default=None, ge=16, description="Longest sequence in tokens; null is the suite's own limit."
    )
    execution: ExecutionMode | None = Field(
        default=None,
        description="How vLLM runs: eager, graphs (CUDA graphs for decoding, no torch.compile) or compiled (torch.compile; layer "
        "paths are then built, since none can be set in a compiled engine). Null is graphs on GPUs and eager on CPUs.",
    )
    attention_backend: str | None = Field(
        default=None,
        pattern="^[A-Z][A-Z0-9_]{1,40}$",
        description="vLLM's name of an attention backend, for example TRITON_ATTN; null is the engine's default for device and dtype.",
    )
    batch_invariant: bool = Field(
        default=False,
        description="Whether vLLM uses kernels whose results do not depend on what else is in the batch: slower, on GPUs alone.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """A bare string is the kind."""
        return {"kind": value} if isinstance(value, str) else value


class DecideEntry(Frozen):
    """When evaluations of candidates stop early: as soon as their comparison with the base is decided."""

    margin: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Points below which a difference does not matter. 0: stop when better or worse is shown; above 0: also when "
        "equivalent within the margin is shown, and better or worse means by more than the margin.",
    )
    error_rate: float = Field(
        default=0.05,
        ge=1e-3,
        le=0.25,
        description="Probability of any wrong decision, over all candidates and benchmarks of the sweep and all looks together.",
    )
    smallest_share: float = Field(
        default=0.05, gt=0, le=1, description="Share of a benchmark's documents before the first look."
    )
    slice: float = Field(
        default=0.05, gt=0, le=1, description="Share of a benchmark's documents between two looks."
    )
    first: tuple[str, ...] = Field(
        default=(),
        description="Benchmarks that are asked first, by name; the others follow by expected information per second.",
    )
    leave: bool = Field(
        default=False,
        description="Whether a candidate that is shown to be worse on one benchmark leaves: its further benchmarks are not asked. They "
        "are then asked one after another, those of `first` first and the others in the file's order.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random order of the documents.")
    race: RaceRule | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Candidates race against each other instead of being decided against the base: each is asked a part of every "
        "benchmark's documents, and who cannot be among the best any more leaves. Only by itself, without the other fields of `decide`.",
    )

    @model_validator(mode="after")
    def _race_alone(self) -> Self:
        others = sorted(self.model_fields_set - {"race"})
        if self.race is not None and others:
            moved = [name for name in others if name in RaceRule.model_fields]
            hint = (
                f"give `{moved[0]}` below `race`"
                if moved
                else f"leave out `{others[0]}`, or leave out `race`"
            )
            raise ValueError(f"a race compares candidates with each other, not each with the base: {hint}")
        return self


class Sweep(Frozen):
    """Parsed content of a sweep file; shorthands are expanded, names are not resolved yet."""

    name: StorableText = Field(
        min_length=1, max_length=120, description="Name of the sweep, shown in tables."
    )
    base: StorableText = Field(
        min_length=1, description="The checkpoint that all differences are taken against."
    )
    base_name: StorableText | None = Field(
        default=None,
        min_length=1,
        max_length=120,
        exclude_if=_is_unset,
        description="How tables call the base; null is `base`.",
    )
    recipes: tuple[RecipeEntry, ...] = Field(default=(), description="What is compared with the base.")
    sources: dict[str, str] = Field(
        default_factory=dict, description="Name in a recipe to checkpoint, where they differ."
    )
    suites: tuple[SuiteEntry, ...] = Field(min_length=1, description="What is scored.")
    engines: tuple[EngineEntry, ...] = Field(
        default=(EngineEntry(kind=EngineKind.VLLM),), min_length=1, description="With which engines."
    )
    chat_template: str = Field(
        default="auto", pattern="^(auto|on|off)$", description="auto: on where the base's tokenizer has one."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Only the first documents of each subset, for all suites."
    )
    decide: DecideEntry | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Stop when it is decided (`true` for the defaults): the base is asked whole, candidates in slices, or in parts if they race.",
    )
    score_base: bool = Field(
        default=True,
        description="Whether the base is scored too; without it there are scores and no differences.",
    )
    seeds: Seeds = Field(default_factory=Seeds, description="The harness's seeds.")
    build_seed: int = Field(default=0, ge=0, description="Seed of merge methods that draw random numbers.")
    materialize: bool = Field(
        default=False, description="Whether layer paths and merges are built instead of run live."
    )
    try_live: bool = Field(
        default=False,
        exclude_if=_is_unset,
        description="Whether layer paths are tried live in any architecture, and built where the engine's self-check refuses them; "
        "otherwise they run live in the families that tests compare, and elsewhere they are built.",
    )
    trust_remote_code: bool = Field(
        default=False, description="Whether code that comes with a checkpoint may run."
    )
    allow_pickles: bool = Field(default=False, description="Whether pickled weights may be read.")

    @field_validator("decide", mode="before")
    @classmethod
    def _decide_by_default(cls, value: Any) -> Any:
        """`true` means the defaults, `false` no early stops."""
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _decided_against_base(self) -> Self:
        if self.decide is not None and not self.score_base:
            raise ValueError(
                "decide: candidates are decided against the base, so `score_base` cannot be false"
            )
        return self

    @field_validator("chat_template", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: Any) -> Any:
        """YAML reads a bare on or off as true or false."""
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class SweepFile(Frozen):
    """A sweep and its origin."""

    sweep: Sweep = Field(description="The parsed sweep.")
    text: str = Field(description="The file's text.")
    origin: str = Field(description="The file's name, for messages.")
    folder: str = Field(description="Folder that `file:` entries are relative to.")
    options: dict[str, str] = Field(
        default_factory=dict,
        description="Field of the sweep -> option of the command line that it came from, where a command made the sweep.",
    )

    def place(self, *location: int | str) -> str:
        """How a message names a field: file and field, or the option that the field came from."""
        return place_of(location, self.origin, self.options)


def load_sweep(path: Path) -> SweepFile:
    """Read a sweep file; SweepError names file, line and field of the first error."""
    data = read_fields(path, "sweep")
    return parse_sweep(data, origin=str(path), folder=path.resolve().parent)


def parse_sweep(
    data: bytes, *, origin: str, folder: Path, options: Mapping[str, str] | None = None
) -> SweepFile:
    """Parse a sweep file's bytes; `options` maps fields to command-line options, if a command made it."""
    sweep, _ = parse_fields(
        data, Sweep, origin=origin, whole="sweep", fields="`name`, `base` and `suites`", options=options
    )
    return SweepFile(
        sweep=sweep,
        text=data.decode("utf-8"),
        origin=origin,
        folder=str(folder),
        options=dict(options or {}),
    )


def sweep_of_values(
    values: dict[str, Any], *, origin: str, options: Mapping[str, str] | None = None
) -> SweepFile:
    """A sweep from values instead of a file, for commands that score one checkpoint.

    `options` maps a field to its command-line option, for error messages.
    """
    import yaml

    text = yaml.safe_dump(values, sort_keys=False)
    return parse_sweep(text.encode(), origin=origin, folder=Path.cwd(), options=options)
