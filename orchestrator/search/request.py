"""The options of a scan and its two sweeps: one for the search, one for the confirmation.

Both are ordinary sweeps, so that a scan is planned, resumed, watched and shown as any other run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, ValidationError

from evals.engine import EngineKind, Frozen
from evals.errors import EvaluationError
from evals.probes import SCAN_KEYS, RankMethod, Split, probe_keys
from evals.probes.race import RacePlan
from evals.scores import PROBE_SUITE
from evals.suite import load_suite
from orchestrator.errors import SweepError
from orchestrator.plan.sweep import SweepFile, sweep_of_values
from recipes.errors import RecipeError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath, LayerPathSpec
from recipes.layer_visit import Variant

ORIGIN = "mergeboard scan"
OPTIONS = {
    "name": "CHECKPOINT",
    "base": "CHECKPOINT",
    "recipes": "--path",
    "suites.0": "--probes",
    "suites": "--confirm-suite",
    "engines": "--engine",
    "engines.0.dtype": "--dtype",
    "chat_template": "--chat-template",
    "try_live": "--try-live",
}
"""Maps a field of the sweeps to the command-line option that sets it, for error messages."""


class ScanRequest(Frozen):
    """The options of `mergeboard scan`; the same options give the same run."""

    checkpoint: str = Field(min_length=1, description="A directory, an embedded name, or org/name@commit.")
    grid: str | None = Field(
        default="all", description="Grid expression for blocks (i, j); null to measure only `paths`."
    )
    variants: tuple[str, ...] = Field(
        default=(),
        description="How the second pass through the grid's blocks runs: whole, attention, mlp, damped=A; empty is whole.",
    )
    paths: tuple[str, ...] = Field(default=(), description="Further layer paths, in any notation.")
    probes: tuple[str, ...] = Field(
        default=SCAN_KEYS, min_length=1, description="Keys of the probes to evaluate."
    )
    engine: EngineKind = Field(default=EngineKind.VLLM, description="Kind of engine.")
    dtype: str = Field(default="bfloat16", description="Dtype of weights and activations.")
    batch_invariant: bool = Field(default=False, description="Whether vLLM uses batch-invariant kernels.")
    try_live: bool = Field(
        default=False,
        description="Whether layer paths run live in any architecture that passes the engine's self-check.",
    )
    chat_template: str = Field(default="auto", description="on, off, or auto to choose for each probe.")
    rank: RankMethod = Field(
        default=RankMethod.BALANCED_Z, description="How a path's probe values are combined for the ranking."
    )
    top: int = Field(default=10, ge=0, le=500, description="Number of paths to confirm.")
    race: RacePlan | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="The rule by which paths leave that cannot be among the best any more; null to ask every path everything.",
    )
    suite: str | None = Field(
        default=None, description="Suite whose benchmarks the confirmed paths are scored on."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Number of documents per subset of the suite; null is all."
    )

    def search_sweep(self) -> SweepFile:
        """The sweep that evaluates every path on the search sets."""
        recipes: list[dict[str, Any]] = [] if self.grid is None else [{"grid": g} for g in self._grids()]
        return self._sweep("", [*recipes, *self._paths(self.paths)], Split.SEARCH)

    def _grids(self) -> list[str]:
        """The grid once for each variant."""
        suffixes = [Variant.parse(variant).text for variant in self.variants] or [""]
        return [f"{self.grid} variant={suffix}" if suffix else f"{self.grid}" for suffix in suffixes]

    def confirmation_sweep(self, picked: Sequence[LayerPath]) -> SweepFile:
        """The sweep that evaluates the picked paths and the base on the confirmation sets and benchmarks."""
        recipes = [{"name": path.label, "layer_path": path.canonical} for path in picked]
        return self._sweep(" confirmation", recipes, Split.CONFIRMATION)

    def probe_names(self, split: Split) -> tuple[str, ...]:
        """The probes' names in one of the two sets."""
        return tuple(f"{key}-{split}" for key in self.probes)

    def _sweep(self, part: str, recipes: list[dict[str, Any]], split: Split) -> SweepFile:
        suites: list[dict[str, Any]] = [{"suite": PROBE_SUITE, "benchmarks": list(self.probe_names(split))}]
        if split is Split.CONFIRMATION and self.suite is not None:
            suites.append({"suite": self.suite, **({"limit": self.limit} if self.limit else {})})
        return sweep_of_values(
            {
                "name": f"scan {short_name(self.checkpoint)}{part}",
                "base": self.checkpoint,
                "recipes": recipes,
                "suites": suites,
                "engines": [
                    {
                        "kind": self.engine.value,
                        "dtype": self.dtype,
                        **({"batch_invariant": True} if self.batch_invariant else {}),
                    }
                ],
                "chat_template": self.chat_template,
                **({"try_live": True} if self.try_live else {}),
            },
            origin=ORIGIN,
            options=OPTIONS
            | {f"recipes.{n}": "--grid" for n, recipe in enumerate(recipes) if "grid" in recipe},
        )

    def _paths(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        return [{"layer_path": text} for text in dict.fromkeys(texts)]

    def check(self) -> None:
        """Raise SweepError for options that are invalid in themselves, before any look-up."""
        for key in self.probes:
            if key not in probe_keys():
                raise SweepError(
                    f"--probes: there is no probe {key!r}; choose some of {', '.join(probe_keys())}."
                )
        if len(set(self.probes)) < len(self.probes):
            raise SweepError("--probes: a probe is named twice; name each once.")
        if self.grid is None and not self.paths:
            raise SweepError("There is no layer path to try; give --grid all, or some --path.")
        if self.grid is not None:
            _check("--grid", LayerPathGrid.parse, self.grid)
        self._check_variants()
        for text in self.paths:
            _check("--path", LayerPathSpec.parse, text)
        if self.suite is None and self.limit is not None:
            raise SweepError(
                "--limit is about the benchmarks of the confirmation; name their suite with --confirm-suite."
            )
        if self.suite is not None:
            _check("--confirm-suite", load_suite, self.suite)

    def _check_variants(self) -> None:
        for variant in self.variants:
            _check("--variant", Variant.parse, variant)
            if Variant.parse(variant).factor == 0:
                raise SweepError(f"--variant {variant} changes nothing: choose a larger factor.")
        if len({Variant.parse(variant) for variant in self.variants}) < len(self.variants):
            raise SweepError("--variant: a variant is named twice; name each once.")
        if self.variants and self.grid is None:
            raise SweepError(
                '--variant is about the blocks of --grid; write a variant of a path into it, for example --path "(3, 5):attention".'
            )


def _check(option: str, parse: Callable[[str], object], text: str) -> None:
    """Raise SweepError with the option's name if its value does not parse."""
    try:
        parse(text)
    except (RecipeError, EvaluationError) as error:
        raise SweepError(f"{option}: {error}") from error


def request_of(
    *, probes: Sequence[str] | None, paths: Sequence[str] | None, grid: str | None, **values: Any
) -> ScanRequest:
    """Build a request from command-line options; paths without a grid mean that there is no grid."""
    if grid is None and not paths:
        grid = "all"
    chosen = {"probes": tuple(probe.strip() for probe in probes)} if probes is not None else {}
    try:
        return ScanRequest(
            grid=None if grid == "none" else grid, paths=tuple(paths or ()), **chosen, **values
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]).replace("_", "-") if first["loc"] else "scan"
        raise SweepError(f"--{field}: {first['msg']} (given: {first['input']!r}).") from error


def race_of_options(
    race: bool, keep: int | None, error_rate: float | None, *, top: int, rank: str
) -> RacePlan | None:
    """The rule of a race from command-line options; None without one. SweepError if an option is wrong."""
    if not race:
        for option, value in (("--keep", keep), ("--error-rate", error_rate)):
            if value is not None:
                raise SweepError(f"{option} is about a race: give --race too.")
        return None
    if keep is not None and keep < top:
        raise SweepError(
            f"--keep {keep}: {top} paths are confirmed (--top), so that the race has to keep as many; give --top {keep} too."
        )
    rate = {} if error_rate is None else {"error_rate": error_rate}
    try:
        return RacePlan(keep=keep or top or 1, rank=RankMethod(rank), **rate)
    except ValidationError as error:
        raise SweepError(f"--error-rate: {error.errors(include_url=False)[0]['msg']}.") from error


def short_name(checkpoint: str) -> str:
    """The last part of a checkpoint's name, without its commit."""
    return re.split(r"[/\\]", checkpoint.rstrip("/\\").partition("@")[0])[-1] or checkpoint
