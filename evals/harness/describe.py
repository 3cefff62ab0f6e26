"""What a benchmark's data says about its tasks: number of documents, and of choices."""

from __future__ import annotations

from pathlib import Path

from lm_eval.api.task import Task

from evals.errors import DatasetError
from evals.harness.tasks import load_tasks
from evals.scores import ChatTemplate, EvalSettings
from evals.suite import Benchmark

_PROBED = 500
"""Documents whose choices are counted."""


def with_data_facts(benchmark: Benchmark, mirror: Path | None) -> Benchmark:
    """The benchmark with `n_documents` and `choices` of its subsets from the data; unchanged where the data is not there.

    `choices` is set only where every question has the same number.
    """
    settings = EvalSettings(chat_template=ChatTemplate.OFF, fewshot_as_multiturn=False)
    try:
        tasks = load_tasks(benchmark, settings, mirror)
    except DatasetError:
        return benchmark
    subsets = tuple(
        subset.model_copy(
            update={
                "n_documents": len(tasks[subset.task].eval_docs),
                "choices": subset.choices or _choices(tasks[subset.task]),
            }
        )
        for subset in benchmark.subsets
    )
    return benchmark.model_copy(update={"subsets": subsets})


def _choices(task: Task) -> int | None:
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    documents = task.eval_docs
    counts = {len(task.doc_to_choice(documents[n])) for n in range(min(len(documents), _PROBED))}
    count = counts.pop() if len(counts) == 1 else 0
    return count if count >= 2 else None
