"""What a scan is asked for, and the sweeps that follow from it: one that searches, one that confirms.

Both are ordinary sweeps, so that a scan is planned, resumed, watched and shown like any run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, ValidationError

from evals.engine import EngineKind, Frozen
from evals.errors import EvaluationError
from evals.probes import SCAN_KEYS, RankMethod, Split, probe_keys
from evals.scores import PROBE_SUITE
from evals.suite import load_suite
from orchestrator.errors import SweepError
from orchestrator.plan.sweep import SweepFile, sweep_of_values
from recipes.errors import RecipeError
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath, LayerPathSpec

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
}
"""Field of a scan's sweeps -> option of `scan` and `search` that it came from."""


class ScanRequest(Frozen):
    """What `mergeboard scan` is asked for; a scan of the same request is the same run."""

    checkpoint: str = Field(min_length=1, description="A directory, an embedded name, or org/name@commit.")
    grid: str | None = Field(
        default="all", description="Blocks (i, j) in one line; null where only `paths` are wanted."
    )
    paths: tuple[str, ...] = Field(default=(), description="Further layer paths, in any spelling.")
    probes: tuple[str, ...] = Field(
        default=SCAN_KEYS, min_length=1, description="Keys of the probes that are asked."
    )
    engine: EngineKind = Field(default=EngineKind.VLLM, description="The engine.")
    dtype: str = Field(default="bfloat16", description="Dtype of weights and activations.")
    batch_invariant: bool = Field(
        default=False, description="Whether vLLM uses kernels whose results do not depend on the batch."
    )
    chat_template: str = Field(default="auto", description="on, off, or auto: what suits each probe.")
    rank: RankMethod = Field(
        default=RankMethod.BALANCED_Z, description="How the probes of a path become one number."
    )
    top: int = Field(default=10, ge=0, le=500, description="Paths that are confirmed.")
    suite: str | None = Field(
        default=None, description="Suite whose benchmarks the confirmed paths are scored on."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Only the first documents of each of its subsets."
    )

    def search_sweep(self) -> SweepFile:
        """Every path, on the search sets."""
        recipes: list[dict[str, Any]] = [] if self.grid is None else [{"grid": self.grid}]
        return self._sweep("", [*recipes, *self._paths(self.paths)], Split.SEARCH)

    def confirmation_sweep(self, picked: Sequence[LayerPath]) -> SweepFile:
        """The picked paths and the base, on the disjoint sets and on benchmarks."""
        recipes = [{"name": path.label, "layer_path": path.canonical} for path in picked]
        return self._sweep(" confirmation", recipes, Split.CONFIRMATION)

    def probe_names(self, split: Split) -> tuple[str, ...]:
        """The names of the probes in one of the two sets."""
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
            },
            origin=ORIGIN,
            options=OPTIONS
            | {f"recipes.{n}": "--grid" for n, recipe in enumerate(recipes) if "grid" in recipe},
        )

    def _paths(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        return [{"layer_path": text} for text in dict.fromkeys(texts)]

    def check(self) -> None:
        """Refuse what can be seen to be wrong before anything is looked up."""
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
        for text in self.paths:
            _check("--path", LayerPathSpec.parse, text)
        if self.suite is None and self.limit is not None:
            raise SweepError(
                "--limit is about the benchmarks of the confirmation; name their suite with --confirm-suite."
            )
        if self.suite is not None:
            _check("--confirm-suite", load_suite, self.suite)


def _check(option: str, parse: Callable[[str], object], text: str) -> None:
    """Raise SweepError, with the option's name, where a value of it does not parse."""
    try:
        parse(text)
    except (RecipeError, EvaluationError) as error:
        raise SweepError(f"{option}: {error}") from error


def request_of(
    *, probes: Sequence[str] | None, paths: Sequence[str] | None, grid: str | None, **values: Any
) -> ScanRequest:
    """A request from the words of a command line; what is not given has its default, and paths alone mean no grid."""
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


def short_name(checkpoint: str) -> str:
    """The last part of a checkpoint's name, without its commit."""
    return re.split(r"[/\\]", checkpoint.rstrip("/\\").partition("@")[0])[-1] or checkpoint
