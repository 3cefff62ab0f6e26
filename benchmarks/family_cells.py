"""Runs random layer paths of one tiny checkpoint in every engine and compares them with built checkpoints.

Each vLLM engine has a process of its own: vLLM's transformers backend changes the classes of models, and the model runner of
GPUs needs an environment of its own (`tests/gpu_runner/v2.py`).
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, Field

from evals.engine import EngineKind, EngineTuning, GenerateRequest, PathEngine
from evals.errors import EngineError, UnsupportedArchitecture
from recipes.errors import RecipeError
from recipes.relayer import write_layer_path
from tests.gpu_runner.v2 import FailedInRunner, Runner, call
from tests.support.engine_requests import largest_difference, opened, random_requests
from tests.support.family_checkpoints import layers_of
from tests.support.random_paths import (
    Answers,
    Asked,
    Kind,
    Layers,
    answers,
    random_paths,
    text_differences,
)
from tests.support.tiny_checkpoints import VOCABULARY

REQUESTS = random_requests(3, vocabulary=VOCABULARY, count=3, longest=45)
ASKED = Asked(
    REQUESTS,
    [
        GenerateRequest(prompt=REQUESTS[0].context, max_new_tokens=3),
        GenerateRequest(prompt=REQUESTS[1].context, max_new_tokens=7),
    ],
)
ASKED_ON_RUNNER = Asked(REQUESTS[:1], ASKED.prompts[:1])
"""A part of ASKED for the GPU's model runner, whose kernels Triton's interpreter runs here."""
CHANGES = 1000
"""Changes of path whose time and memory are measured in vLLM."""


_ONE_TOKEN_MORE = frozenset({"cohere2"})
"""Families whose layers with a window see `sliding_window` tokens in transformers and one more in vLLM (`commandr.py`)."""


class Cell(BaseModel):
    """One engine's layer paths of one family, compared with built checkpoints."""

    paths: int = Field(default=0, description="Number of layer paths.")
    largest: float = Field(default=0.0, description="Largest difference of a log-probability.")
    texts: int = Field(default=0, description="Number of greedy texts.")
    ties: int = Field(default=0, description="Texts that part where two tokens are equally likely.")
    parted: int = Field(default=0, description="Texts that part elsewhere.")
    way: str = Field(default="", description="How vLLM scores paths: `own passes`, or its `scheduler`.")
    refusal: str = Field(default="", description="Why the engine runs no path; empty if it does.")
    change_ms: float | None = Field(
        default=None,
        description="Median time of a change of path in milliseconds, of CHANGES; null if not measured.",
    )
    grown_mib: float | None = Field(
        default=None,
        description="Resident memory after CHANGES changes of path less that after the first round of them; null if not measured.",
    )

    @property
    def right(self) -> bool:
        """Whether all paths equal their built checkpoints."""
        return not self.refusal and self.largest < LIMIT and not self.parted

    @property
    def text(self) -> str:
        """The cell as Markdown."""
        if self.refusal:
            return f"no: {self.refusal}"
        ties = f", {self.ties} ties in {self.texts} texts" if self.ties else ""
        parted = f", **{self.parted} texts differ**" if self.parted else ""
        way = f" ({self.way})" if self.way else ""
        return f"{self.paths} paths, {self.largest:.0e}{ties}{parted}{way}"


LIMIT = 1e-3
"""Largest difference of a log-probability that counts as equal, in float32."""


@dataclass(frozen=True)
class LiveAnswers:
    """What one vLLM engine answers, and what changing its path costs."""

    answers: list[Answers]
    way: str
    change_ms: float | None
    grown_mib: float | None


@dataclass(frozen=True)
class Reference:
    """The answers of built checkpoints in the transformers engine."""

    checkpoint: Path
    paths: list[Layers]
    answers: list[Answers | None]
    """By path; None for a path that cannot be built."""
    built: str
    """How many paths were built and ran, and why others did not."""

    @property
    def held(self) -> list[Layers]:
        """The paths that a checkpoint can hold; all if none can, so that an engine can refuse them."""
        held = [path for path, answer in zip(self.paths, self.answers, strict=True) if answer is not None]
        return held or self.paths


def paths_of(n_layers: int, count: int) -> list[Layers]:
    """So many random paths, of all kinds."""
    by_kind = [random_paths(kind, n_layers, each=-(-count // len(Kind))) for kind in Kind]
    return [path for group in zip(*by_kind, strict=True) for path in group][:count]


def build_reference(checkpoint: Path, n_paths: int) -> Reference:
    """Build, load and ask so many random paths."""
    paths = paths_of(layers_of(checkpoint), n_paths)
    results: list[Answers | None] = []
    reasons: list[str] = []
    for path in paths:
        try:
            results.append(built_answers(checkpoint, path))
            gc.freeze()  # every engine that closes collects garbage: the imported modules need not be looked through again
        except (RecipeError, EngineError) as error:
            results.append(None)
            reasons.append(_plain(str(error), checkpoint))
    count = sum(result is not None for result in results)
    refused = f"; no: {reasons[0]}" if reasons else ""
    return Reference(checkpoint, paths, results, f"{count} of {len(paths)} paths{refused}")


def built_answers(checkpoint: Path, path: Layers) -> Answers:
    """The answers of a path that is built and loaded by the transformers engine."""
    folder = checkpoint.parent / "built"
    try:
        write_layer_path(checkpoint, path, folder)
        with opened(EngineKind.TRANSFORMERS, folder) as engine:
            return answers(engine, ASKED)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def transformers_cell(reference: Reference) -> Cell:
    """Live paths of the transformers engine."""
    try:
        with opened(
            EngineKind.TRANSFORMERS, reference.checkpoint, EngineTuning(threads=1, live=True)
        ) as engine:
            live = [_on_path(engine, path, ASKED) for path in reference.held]
    except EngineError as error:
        return Cell(refusal=_plain(str(error), reference.checkpoint))
    return _compared(reference, live, ASKED)


def vllm_cell(reference: Reference, *, gpu_runner: bool = False) -> Cell:
    """Live paths of vLLM's CPU build, with its own model runner or with that of GPUs on CPU tensors."""
    asked = ASKED_ON_RUNNER if gpu_runner else ASKED
    changes = 0 if gpu_runner else CHANGES
    runner = Runner(async_scheduling=gpu_runner, v2=gpu_runner)
    checkpoint = _for_vllm(reference.checkpoint)
    try:
        live = call(live_in_vllm, checkpoint, reference.held, asked, changes, runner=runner)
    except FailedInRunner as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return Cell(refusal=_plain(lines[-1], reference.checkpoint))
    if isinstance(live, str):
        return Cell(refusal=_plain(live, reference.checkpoint))
    cell = _compared(reference, live.answers, asked)
    cell.way, cell.change_ms, cell.grown_mib = live.way, live.change_ms, live.grown_mib
    return cell


def _for_vllm(checkpoint: Path) -> Path:
    """The checkpoint with the window of attention with which vLLM computes what transformers does with the checkpoint's."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] not in _ONE_TOKEN_MORE:
        return checkpoint
    folder = checkpoint.parent / "for-vllm"
    if not folder.exists():
        shutil.copytree(checkpoint, folder)
        config["sliding_window"] -= 1
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def live_in_vllm(checkpoint: Path, paths: list[Layers], asked: Asked, changes: int) -> LiveAnswers | str:
    """Answers on every path, then so many changes of path; or why the engine refuses them."""
    extra = max(map(len, paths)) - layers_of(checkpoint)
    tuning = EngineTuning(threads=1, live=True, extra_layer_slots=max(extra, 1), kv_cache_gib=0.25)
    try:
        with opened(EngineKind.VLLM, checkpoint, tuning) as engine:
            live = [_on_path(engine, path, asked) for path in paths]
            passes = getattr(engine, "_unscheduled", None) is not None
            time_ms, grown = _change_cost(engine, paths, changes) if changes else (None, None)
            return LiveAnswers(live, "own passes" if passes else "scheduler", time_ms, grown)
    except UnsupportedArchitecture as error:
        return str(error)
    except EngineError as error:
        return f"the unmodified checkpoint does not start: {error}"


def _change_cost(engine: PathEngine, paths: list[Layers], changes: int) -> tuple[float, float]:
    """Median milliseconds of a change of path, and MiB of resident memory that `changes` of them add after a tenth as many."""
    process = psutil.Process(os.getpid())
    spent: list[float] = []
    sizes: list[int] = []
    for number in range(changes + changes // 10):
        if number == changes // 10:
            gc.collect()
            sizes.append(process.memory_info().rss)
        begun = time.perf_counter()
        engine.set_layer_path(paths[number % len(paths)])
        spent.append(1000 * (time.perf_counter() - begun))
    gc.collect()
    return statistics.median(spent[-changes:]), (process.memory_info().rss - sizes[0]) / 2**20


def _compared(reference: Reference, live: list[Answers], asked: Asked) -> Cell:
    """Live answers against those of built checkpoints; texts that differ are judged by the transformers engine."""
    cell = Cell()
    differing: list[tuple[Layers, Answers, Answers]] = []
    n_scores, n_texts = len(asked.scores), len(asked.prompts)
    built = [expected for expected in reference.answers if expected is not None]
    if not built:
        return Cell(refusal="no path of it can be built, so that there is nothing to compare with")
    for path, given, expected in zip(reference.held, live, built, strict=True):
        cell.paths, cell.texts = cell.paths + 1, cell.texts + n_texts
        cell.largest = max(cell.largest, largest_difference(given[0], expected[0][:n_scores]))
        if given[1] != expected[1][:n_texts]:
            differing.append((path, given, expected))
    if differing:
        with opened(EngineKind.TRANSFORMERS, reference.checkpoint) as judge:
            for path, given, expected in differing:
                judge.set_layer_path(path)
                ties, parted = text_differences(judge, asked.prompts, given[1], expected[1][:n_texts])
                cell.ties, cell.parted = cell.ties + ties, cell.parted + parted
    return cell


def _on_path(engine: PathEngine, path: Layers, asked: Asked) -> Answers:
    """The engine's answers on a layer path."""
    engine.set_layer_path(path)
    return answers(engine, asked)


def _plain(text: str, checkpoint: Path) -> str:
    """The first line of an error, without the folder of the checkpoint."""
    first = (text.splitlines() or [""])[0]
    return first.replace(f"{checkpoint}", "it").replace(str(checkpoint.parent), "")
