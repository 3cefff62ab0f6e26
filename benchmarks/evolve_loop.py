"""Candidates as mergekit-evolve evaluates them: mergekit writes each one, and lm-eval opens an engine for it.

    python benchmarks/evolve_loop.py --home DIR [--candidates 2] [--questions 64]

Beside `benchmarks/live_merges.py`: the same sources and questions, as text of an lm-eval task. `mergekit.evo.helpers` is the body of
mergekit-evolve's loop over candidates; the loop itself (CMA-ES from the package cma, Ray actors that ask for GPUs) is left out, so what is
measured is its lower bound. vLLM runs eager, since the library's default compiles for each engine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.live_merges import questions
from evals.engine import ExecutionMode
from evals.vllm.environment import answer_for_cpu_build, environment, process_settings
from recipes.demo import BASE, NOISE, ensure_demo_checkpoint

TASK = "live_merge_questions"


def write_task(folder: Path, tokenizer_of: Path, count: int) -> None:
    """An lm-eval task of the benchmark's questions."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    documents = [
        {"context": tokenizer.decode(q.context), "choices": [tokenizer.decode(c) for c in q.continuations]}
        for q in questions(count)
    ]
    (folder / "questions.json").write_text(json.dumps(documents))
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": str(folder / "questions.json")},
        "test_split": "train",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(task))


def candidate(folder: Path, sources: list[str], seed: int) -> dict[str, float]:
    """Seconds until one candidate is written, and until it is evaluated."""
    import torch
    from lm_eval.tasks import TaskManager
    from mergekit.common import ModelReference
    from mergekit.evo.config import TaskConfiguration
    from mergekit.evo.genome import ModelGenome, ModelGenomeDefinition
    from mergekit.evo.helpers import evaluate_model, merge_model
    from mergekit.options import MergeOptions

    torch.manual_seed(seed)
    models = [ModelReference.model_validate(source) for source in sources]
    genome = ModelGenome(ModelGenomeDefinition(models=models, merge_method="linear"))
    task_manager = TaskManager(include_path=str(folder))
    begun = time.perf_counter()
    written = merge_model(genome.initial_genotype(random=True), genome, str(folder), MergeOptions())
    merged_s = time.perf_counter() - begun
    evaluate_model(
        written,
        [TaskConfiguration(name=TASK)],
        num_fewshot=0,
        limit=None,
        vllm=True,
        task_manager=task_manager,
        model_kwargs={"enforce_eager": True},
    )
    return {"written": round(merged_s, 2), "all answers": round(time.perf_counter() - begun, 2)}


def in_process(folder: Path, sources: list[str], seed: int, out: Any) -> None:
    """One candidate in a process of its own, as a Ray task of the library evaluates it; imports are not counted."""
    answer_for_cpu_build()
    import lm_eval.models.vllm_causallms  # noqa: F401  # mergekit names it without importing it

    settings = process_settings(True, 2, 1, ExecutionMode.EAGER, batch_invariant=False)
    with environment({**settings, "VLLM_CPU_KVCACHE_SPACE": "1"}):
        out.put(candidate(folder, sources, seed))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--questions", type=int, default=64)
    options = parser.parse_args()
    sources = [str(ensure_demo_checkpoint(options.home, name)) for name in (BASE, NOISE)]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="evolve-", dir=options.home) as folder:
        write_task(Path(folder), Path(sources[0]), options.questions)
        for seed in range(options.candidates):
            out = context.Queue()
            process = context.Process(target=in_process, args=(Path(folder), sources, seed, out))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(f"The candidate's process ended with {process.exitcode}.")
            print(json.dumps(out.get()), flush=True)


if __name__ == "__main__":
    main()
