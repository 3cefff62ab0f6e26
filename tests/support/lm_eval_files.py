"""Result and samples files of lm-eval 0.4.x for any task, as its EvaluationTracker writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STAMP = "2026-03-04T05-06-07.123456"


@dataclass
class Task:
    """A task with the answers of one run: one number (0 to 1) per document and metric."""

    name: str
    answers: Mapping[
        str, Sequence[float]
    ]  # by metric; "exact_match,strict-match" has the filter after the comma
    output_type: str = "multiple_choice"
    shots: int = 0
    lower: tuple[str, ...] = ()
    extra: dict[str, float] = field(default_factory=dict)
    scale: float = 1.0
    n_documents: int = 0
    passage_of: int = 0  # number of questions that share a passage; 0 for none

    @property
    def n(self) -> int:
        return len(next(iter(self.answers.values()), ())) or self.n_documents


def write_run(
    folder: Path,
    tasks: Sequence[Task],
    *,
    model: str = "org/model",
    groups: Mapping[str, Sequence[str]] | None = None,
    group_values: Mapping[str, Mapping[str, float]] | None = None,
    samples: bool = True,
    stamp: str = STAMP,
    **changes: Any,
) -> Path:
    """Write a result file and one samples file per task; returns the result file."""
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {k: {"alias": k, **v} for k, v in (group_values or {}).items()}
    for task in tasks:
        row: dict[str, Any] = {"alias": task.name}
        for metric, values in task.answers.items():
            name, _, kind = metric.partition(",")
            mean = sum(values) / len(values)
            spread = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
            row[f"{name},{kind or 'none'}"] = mean * task.scale
            row[f"{name}_stderr,{kind or 'none'}"] = (spread / len(values)) ** 0.5 * task.scale
        results[task.name] = {**row, **task.extra}
    data = {
        "results": results,
        "group_subtasks": {
            **{k: list(v) for k, v in (groups or {}).items()},
            **{t.name: [] for t in tasks},
        },
        "configs": {t.name: _config(t) for t in tasks},
        "versions": {t.name: 1.0 for t in tasks},
        "n-shot": {t.name: t.shots for t in tasks},
        "higher_is_better": {
            t.name: {m.partition(",")[0]: m not in t.lower for m in (*t.answers, *t.lower)} for t in tasks
        },
        "n-samples": {t.name: {"original": t.n, "effective": t.n} for t in tasks},
        "config": {
            "model": "hf",
            "model_args": f"pretrained={model},dtype=bfloat16",
            "model_dtype": "torch.bfloat16",
            "batch_size": 8,
            "limit": None,
            "gen_kwargs": None,
            "random_seed": 0,
            "numpy_seed": 1234,
            "torch_seed": 1234,
            "fewshot_seed": 1234,
        },
        "lm_eval_version": "0.4.9",
        "model_name": model,
        "chat_template": None,
        "fewshot_as_multiturn": False,
    }
    path = folder / f"results_{stamp}.json"
    path.write_text(json.dumps({**data, **changes}), encoding="utf-8")
    for task in (t for t in tasks if samples and t.answers):
        # lm-eval replaces what a file name cannot hold.
        lines = [json.dumps(entry) for entry in _entries(task)]
        (folder / f"samples_{task.name.replace('/', '_')}_{stamp}.jsonl").write_text(
            "\n".join(lines) + "\n", encoding="utf-8"
        )
    return path


def _config(task: Task) -> dict[str, Any]:
    names = [m.partition(",") for m in task.answers]
    config: dict[str, Any] = {
        "task": task.name,
        "dataset_path": f"hub/{task.name}",
        "output_type": task.output_type,
        "metric_list": [{"metric": m} for m in dict.fromkeys(name for name, _, _ in names)],
        "num_fewshot": task.shots,
    }
    filters = [kind for _, _, kind in names if kind]
    return {**config, "filter_list": [{"name": f} for f in dict.fromkeys(filters)]} if filters else config


def _entries(task: Task) -> list[dict[str, Any]]:
    entries = []
    kinds = dict.fromkeys(m.partition(",")[2] or "none" for m in task.answers)
    for number in range(task.n):
        document = {"question": f"{task.name} question {number}"}
        if task.passage_of:
            document["passage"] = f"{'A long passage. ' * 10}{number // task.passage_of}"
        prompt = f"Question: {document['question']}\nAnswer:"
        for kind in kinds:
            metrics = {
                m.partition(",")[0]: values[number] * task.scale
                for m, values in task.answers.items()
                if (m.partition(",")[2] or "none") == kind
            }
            first = next(iter(metrics.values()))
            is_choice = task.output_type == "multiple_choice"
            arguments = (
                {f"gen_args_{i}": {"arg_0": prompt, "arg_1": f" {i}"} for i in range(2)}
                if is_choice
                else {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}}
            )
            responses: list[Any] = (
                [[[-1.0 - number / 1000 - first, False]], [[-1.5 - number / 1000, False]]]
                if is_choice
                else [[f"answer {number} {first}"]]
            )
            entries.append(
                {
                    "doc_id": number,
                    "doc": document,
                    "target": "0",
                    "arguments": arguments,
                    "resps": responses,
                    "filtered_resps": [r[0] for r in responses] if is_choice else responses[0],
                    "filter": kind,
                    "metrics": list(metrics),
                    "doc_hash": _sha(json.dumps(document, indent=2)),
                    "prompt_hash": _sha(prompt),
                    "target_hash": _sha("0"),
                    **metrics,
                }
            )
    return entries


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
