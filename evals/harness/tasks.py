"""Benchmarks as lm-eval's own tasks: its code, with the data taken from a mirror and the suite's changes laid over it."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.tasks
from lm_eval.api.task import Task

from evals.datasets import content_digest, find
from evals.errors import DatasetError, EvaluationError, SuiteError
from evals.scores import EvalSettings
from evals.suite import OWN_TASKS_DIR, Benchmark, Extraction
from evals.task_files import task_folder

NLTK_DATA = OWN_TASKS_DIR / "nltk_data"


def load_tasks(benchmark: Benchmark, settings: EvalSettings, mirror: Path | None) -> dict[str, Task]:
    """The benchmark's tasks by name, ready to render their prompts."""
    _prepare_libraries()
    set_seeds(settings)
    if benchmark.extraction is Extraction.MATH:
        _prepare_math()
    location = find(benchmark, mirror)
    # `datasets` keeps what it has prepared under the folder's name and README patterns alone: other data of the same name
    # would be answered with what an earlier folder held.
    cache = Path(datasets.config.HF_DATASETS_CACHE) / f"mergeboard-{content_digest(location, benchmark)}"
    folder = task_folder(benchmark)
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=str(folder))
    missing = [s.task for s in benchmark.subsets if s.task not in manager.task_index]
    if missing:
        raise SuiteError(
            f"Benchmark '{benchmark.name}' names the task '{missing[0]}', which {folder} does not have."
        )
    functions = {field: _function(name) for field, name in benchmark.functions.items()}
    members = [
        {
            "task": subset.task,
            "dataset_path": str(location),
            "dataset_kwargs": {"cache_dir": str(cache)},
            "num_fewshot": benchmark.shots,
            **functions,
            **benchmark.overrides,
            **subset.overrides,
        }
        for subset in benchmark.subsets
    ]
    with quiet():
        try:
            loaded = manager.load([{"group": benchmark.name, "task": members}])["tasks"]
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise DatasetError(
                f"The data of benchmark '{benchmark.name}' in {location} is not as its tasks need it ({reason}); "
                f"get {benchmark.dataset.path} again."
            ) from error
    prepare = _function(benchmark.prepare) if benchmark.prepare else None
    for task in loaded.values():
        task.set_fewshot_seed(seed=settings.seeds.fewshot)
        if prepare is not None:
            prepare(task)
    return {subset.task: loaded[subset.task] for subset in benchmark.subsets}


def set_seeds(settings: EvalSettings) -> None:
    """Sets the global seeds that lm-eval sets before it loads tasks."""
    import random

    import numpy
    import torch

    random.seed(settings.seeds.random)
    numpy.random.seed(settings.seeds.numpy)
    torch.manual_seed(settings.seeds.torch)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps lm-eval and datasets from writing bars and per-document notes to the terminal."""
    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, lm_eval.api.task.tqdm
    bars = datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    # lm-eval has no switch for the bar that it shows while it renders prompts.
    lm_eval.api.task.tqdm = _no_bar
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar
        if not bars:
            datasets.enable_progress_bars()


def _no_check(recognizer: object, version: str) -> None:
    """In place of antlr's version note."""


def _no_bar(items: Any, **_: object) -> Any:
    return items


def _prepare_libraries() -> None:
    """Makes the libraries behind the tasks work without a download, quietly, and the same each time."""
    import antlr4  # type: ignore[import-untyped]  # it has no types
    import langdetect  # type: ignore[import-untyped]  # it has no types
    import nltk

    if str(NLTK_DATA) not in nltk.data.path:
        nltk.data.path.insert(0, str(NLTK_DATA))
    # Unseeded, langdetect gives some texts another language from run to run.
    langdetect.DetectorFactory.seed = 0
    # Math-Verify's grammar was generated for another minor version of the antlr runtime than sympy's, which reads it
    # just as well, but prints so to standard output for every answer.
    antlr4.Recognizer.Recognizer.checkVersion = _no_check


def _prepare_math() -> None:
    """Makes the parsers of MATH answers give what they should: both stop by the alarm signal when they take too long."""
    import sympy.parsing.latex

    if threading.current_thread() is not threading.main_thread():
        raise EvaluationError(
            "MATH answers are judged within time limits that work in a process's main thread alone; evaluate from there."
        )
    # The first call imports for about a second, which is all that lm-eval allows for one comparison.
    sympy.parsing.latex.parse_latex("1")


def _function(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.rpartition(".")
    if not module.startswith("evals.tasks."):
        raise SuiteError(f"A suite may name functions below evals.tasks only, not '{dotted}'.")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SuiteError(f"There is no function '{dotted}'; mend the suite.") from error
    return found
