"""Result files as the boards and lm-eval write them, made from numbers of right answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from evals.results_files import ImportedBenchmark, ImportedRun
from evals.suite import Benchmark, load_suite

V2 = load_suite("leaderboard-v2")
STAMP = "2025-01-28T10-22-20.980995"


def benchmark(name: str) -> Benchmark:
    return V2.benchmark(name)


def right_answers(share: float = 0.6) -> dict[str, int]:
    """A number of right answers for every subset of the second board, none of them round."""
    counts = {}
    for b in V2.benchmarks:
        for i, subset in enumerate(b.subsets):
            n = subset.n_documents or 100
            counts[subset.task] = min(n, round(n * (subset.lower_bound + share * (0.3 + 0.02 * i))))
    return counts


def metrics_of(b: Benchmark, right: int, n: int, *, old_math: bool = False) -> dict[str, Any]:
    """A task's entry under 'results'."""
    entry: dict[str, Any] = {"alias": "x"}
    for i, metric in enumerate(b.metrics):
        value = (
            right / n if i == len(b.metrics) - 1 else (right + 40) / (n + 293)
        )  # instructions are more than prompts
        entry[f"{metric},none"] = value
        entry[f"{metric}_stderr,none"] = (
            "N/A" if i < len(b.metrics) - 1 else math.sqrt(value * (1 - value) / (n - 1))
        )
    if b.stages and not old_math:
        value = (right - right // 10) / n
        entry["exact_match_original,none"] = value
        entry["exact_match_original_stderr,none"] = math.sqrt(value * (1 - value) / (n - 1))
    return entry


def board_v2(counts: dict[str, int], *, version: float = 2.0, **changes: Any) -> dict[str, Any]:
    """A file of the second board: groups and aggregates beside the tasks, no exact_match_original."""
    results: dict[str, Any] = {}
    versions, shots, samples, groups = {}, {}, {}, {}
    for b in V2.benchmarks:
        for subset in b.subsets:
            if subset.task in counts:
                n = subset.n_documents or 100
                results[subset.task] = metrics_of(b, counts[subset.task], n, old_math=True)
                versions[subset.task] = version if b.stages else 1.0
                shots[subset.task] = b.shots
                samples[subset.task] = {"original": n, "effective": n}
        there = [s for s in b.subsets if s.task in counts]
        if len(there) > 1:
            group = "leaderboard_" + {"math": "math_hard"}.get(b.name, b.name)
            total = sum(s.n_documents or 100 for s in there)
            value = sum(counts[s.task] for s in there) / total
            results[group] = {
                f"{b.metrics[0]},none": value,
                f"{b.metrics[0]}_stderr,none": 0.01,
                "alias": " - x",
            }
            groups[group] = [s.task for s in there]
    if len(groups) > 3:
        results["leaderboard"] = {
            "acc_norm,none": 0.31,
            "acc_norm_stderr,none": 0.005,
            "alias": "leaderboard",
        }
        groups["leaderboard"] = list(groups)
    data = {
        "results": results,
        "groups": {k: results[k] for k in groups},
        "group_subtasks": groups,
        "configs": {k: {"task": k, "num_fewshot": v} for k, v in shots.items()},
        "versions": versions,
        "n-shot": shots,
        "n-samples": samples,
        "config": {
            "model": "hf",
            "model_args": "pretrained=org/model,revision=0123abcd,trust_remote_code=False,dtype=bfloat16",
            "model_num_parameters": 134515008,
            "model_dtype": "torch.bfloat16",
            "model_revision": "main",
            "model_sha": "0123abcd",
            "batch_size": "auto",
            "limit": None,
            "gen_kwargs": None,
            "random_seed": 0,
            "numpy_seed": 1234,
            "torch_seed": 1234,
            "fewshot_seed": 1234,
        },
        "git_hash": "b569ab0",
        "date": 1738059740.0,
        "transformers_version": "4.46.0",
        "model_source": "hf",
        "model_name": "org/model",
        "model_name_sanitized": "org__model",
        "fewshot_as_multiturn": True,
        "system_instruction": None,
        "chat_template": "{% for message in messages %}",
        "chat_template_sha": "a" * 64,
        "something_new": {"nobody": "knows"},
    }
    return {**data, **changes}


def harness_0413(counts: dict[str, int], **changes: Any) -> dict[str, Any]:
    """A file of lm-eval 0.4.13: both scores of MATH, version 3.0."""
    data = board_v2(counts, version=3.0, lm_eval_version="0.4.13", max_length=8192)
    for b in V2.benchmarks:
        for subset in b.subsets:
            if b.stages and subset.task in counts:
                data["results"][subset.task] = metrics_of(b, counts[subset.task], subset.n_documents or 100)
    return {**data, **changes}


def write(folder: Path, data: dict[str, Any], stamp: str = STAMP) -> Path:
    path = folder / f"results_{stamp}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    return path


def logged(task: str, right: np.ndarray, *, k: int = 2, metric: str = "acc_norm") -> list[dict[str, Any]]:
    """A task's samples as lm-eval 0.4 logs them: prompts and all, numbers as text."""
    entries = []
    for doc_id, is_right in enumerate(right):
        logprobs = [-1.0 if c == (0 if is_right else 1) else -9.0 for c in range(k)]
        entries.append(
            {
                "doc_id": doc_id,
                "doc": {"question": f"{task} {doc_id}?", "choices": [f"answer {c}" for c in range(k)]},
                "target": "0",
                "arguments": {
                    f"gen_args_{c}": {"arg_0": f"{task} {doc_id}?\nA:", "arg_1": f" answer {c}"}
                    for c in range(k)
                },
                "resps": [[[str(lp), "False"]] for lp in logprobs],
                "filtered_resps": [[str(lp), "False"] for lp in logprobs],
                "doc_hash": f"{doc_id:064x}",
                "prompt_hash": f"{doc_id + 7:064x}",
                "target_hash": "0" * 64,
                "filter": "none",
                "metrics": [metric],
                metric: float(is_right),
            }
        )
    return entries


def write_samples(
    folder: Path, task: str, entries: list[dict[str, Any]], stamp: str = STAMP, *, lines: bool = True
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{stamp}.{'jsonl' if lines else 'json'}"
    text = "".join(json.dumps(e) + "\n" for e in entries) if lines else json.dumps(entries, indent=2)
    path.write_text(text, encoding="utf-8")
    return path


def board_v1(share: float = 0.6, **changes: Any) -> dict[str, Any]:
    """A file of the first board, which knows nothing of counts or templates."""
    suite = load_suite("leaderboard-v1")
    names = {"arc_challenge": "arc:challenge", "truthfulqa_mc2": "truthfulqa:mc"}
    results: dict[str, Any] = {}
    for b in suite.benchmarks:
        for i, subset in enumerate(b.subsets):
            n = subset.n_documents or 100
            value = round(n * (share + 0.003 * i)) / n
            stderr = math.sqrt(value * (1 - value) / (n - 1))
            name = names.get(subset.task, subset.task.replace("mmlu_", "hendrycksTest-"))
            metric = (
                "mc2" if "truthful" in name else b.metrics[0].partition(",")[0].replace("exact_match", "acc")
            )
            results[f"harness|{name}|{b.shots}"] = {"acc": 0.1, metric: value, f"{metric}_stderr": stderr}
    return {
        "config_general": {
            "lighteval_sha": "494ee12240e716e804ae9ea834f84a2c864c07ca",
            "num_few_shot_default": 0,
            "max_samples": None,
            "job_id": "",
            "model_name": "org/model",
            "model_sha": "0123abcd",
            "model_dtype": "torch.bfloat16",
            "model_size": "12.58 GB",
        },
        "results": {**results, "all": {"acc": 0.6, "acc_stderr": 0.03}},
        "versions": {"all": 0, **{k: 1 if "hendrycks" in k or "truthful" in k else 0 for k in results}},
        "config_tasks": dict.fromkeys(results, "LM Harness task"),
        "summary_tasks": {
            k: {"hashes": {"hash_examples": "17b0cae357c0259e"}, "truncated": 0} for k in results
        },
        **changes,
    }


def result(run: ImportedRun, name: str) -> ImportedBenchmark:
    """What an imported run says of a benchmark."""
    return next(b for b in run.benchmarks if b.measurement.result.benchmark == name and b.primary)
