"""Loads a benchmark's lm-eval tasks with local data and the suite's overrides."""

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

from evals.datasets import content_digest, find_dataset
from evals.errors import DatasetError, EvaluationError, SuiteError
from evals.scores import EvalSettings
from evals.suite import FILES_PREFIX, OWN_TASKS_DIR, Benchmark, Extraction, Subset
from evals.task_files import task_folder
from evals.task_yaml import index_of, python_of, read_task

NLTK_DATA = OWN_TASKS_DIR / "nltk_data"


def load_tasks(benchmark: Benchmark, settings: EvalSettings, mirror: Path | None) -> dict[str, Task]:
    """The benchmark's tasks by name, ready to render their prompts."""
    _prepare_libraries()
    set_seeds(settings)
    if benchmark.extraction is Extraction.MATH:
        _prepare_math()
    location = find_dataset(benchmark, mirror)
    # `datasets` caches prepared data by folder name and README patterns only, so that changed data in the same folder would
    # be read from the cache.
    cache = Path(datasets.config.HF_DATASETS_CACHE) / f"mergeboard-{content_digest(location, benchmark)}"
    folder = task_folder(benchmark)
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=str(folder))
    missing = [s.task for s in benchmark.subsets if s.task not in manager.task_index]
    if missing:
        raise SuiteError(
            f"Benchmark '{benchmark.name}' names the task '{missing[0]}', which {folder} does not have."
        )
    _require_allowed_code(benchmark, folder)
    functions = {field: _import_function(name) for field, name in benchmark.functions.items()}
    members = [
        {
            "task": subset.task,
            **_data_fields(benchmark, subset, location, cache, manager.task_index[subset.task].cfg),
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
                f"The data of benchmark '{benchmark.name}' in {location} does not fit its tasks ({reason}); "
                f"get {benchmark.dataset.path} again."
            ) from error
    prepare = _import_function(benchmark.prepare) if benchmark.prepare else None
    for task in loaded.values():
        task.set_fewshot_seed(seed=settings.seeds.fewshot)
        if prepare is not None:
            prepare(task)
    return {subset.task: loaded[subset.task] for subset in benchmark.subsets}


def _data_fields(
    benchmark: Benchmark, subset: Subset, location: Path, cache: Path, config: dict[str, Any] | None
) -> dict[str, Any]:
    """The fields of a task that say where its data is: a local data set, or files that came with the definition."""
    kwargs = {
        k: v for k, v in ((config or {}).get("dataset_kwargs") or {}).items() if k != "trust_remote_code"
    }
    by_split = subset.files or benchmark.dataset.files
    if not by_split:
        return {"dataset_path": str(location), "dataset_kwargs": {**kwargs, "cache_dir": str(cache)}}
    files = {split: [str(location / name) for name in names] for split, names in by_split.items()}
    return {
        "dataset_path": benchmark.dataset.path,
        "dataset_kwargs": {**kwargs, "data_files": files, "cache_dir": str(cache)},
    }


def _require_allowed_code(benchmark: Benchmark, folder: Path) -> None:
    """Raise SuiteError if a task of the user's would run Python that its suite does not allow by name."""
    if not benchmark.tasks.startswith(FILES_PREFIX):
        return
    files = index_of(folder).files
    for subset in benchmark.subsets:
        file = files.get(subset.task)
        if file is not None and subset.task not in benchmark.code and python_of(read_task(file.path, folder)):
            raise SuiteError(
                f"The task '{subset.task}' brings Python of its own that its suite does not allow; allow it by name there."
            )


def set_seeds(settings: EvalSettings) -> None:
    """Set the global seeds that lm-eval sets before it loads tasks."""
    import random

    import numpy
    import torch

    random.seed(settings.seeds.random)
    numpy.random.seed(settings.seeds.numpy)
    torch.manual_seed(settings.seeds.torch)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars and per-document messages of lm-eval and datasets."""
    logger = logging.getLogger("lm_eval")
    level, tqdm = logger.level, lm_eval.api.task.tqdm
    bars_disabled = datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    # lm-eval has no option to hide the bar that it shows while it renders prompts.
    lm_eval.api.task.tqdm = _plain_iterator
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = tqdm
        if not bars_disabled:
            datasets.enable_progress_bars()


def _skip_version_check(recognizer: object, version: str) -> None:
    """Replaces antlr's version check."""


def _plain_iterator(items: Any, **_: object) -> Any:
    return items


def _prepare_libraries() -> None:
    """Make the libraries used by the tasks offline, quiet and deterministic."""
    import antlr4  # type: ignore[import-untyped]  # it has no types
    import langdetect  # type: ignore[import-untyped]  # it has no types
    import nltk

    if str(NLTK_DATA) not in nltk.data.path:
        nltk.data.path.insert(0, str(NLTK_DATA))
    # Without a seed, langdetect's result varies for some texts.
    langdetect.DetectorFactory.seed = 0
    # Math-Verify's and sympy's grammars were generated for different minor versions of the antlr runtime; both work, but the
    # check prints a warning to standard output for every answer.
    antlr4.Recognizer.Recognizer.checkVersion = _skip_version_check


def _prepare_math() -> None:
    """Prepare the parsers of MATH answers, which enforce their time limits by SIGALRM."""
    import sympy.parsing.latex

    if threading.current_thread() is not threading.main_thread():
        raise EvaluationError(
            "MATH answers are scored within time limits that work only in a process's main thread; evaluate from there."
        )
    # The first call spends about a second on imports, which is lm-eval's time limit for one comparison.
    sympy.parsing.latex.parse_latex("1")


def _import_function(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.rpartition(".")
    if not module.startswith("evals.tasks."):
        raise SuiteError(f"A suite may name functions below evals.tasks only, not '{dotted}'.")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SuiteError(f"There is no function '{dotted}'; correct the suite.") from error
    return function
