"""Result files of lighteval 0.13 and logs of Inspect, with the fields that they write."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EVERY_EVAL: dict[str, Any] = {
    "schema_version": "0.3.0",
    "evaluation_id": "x/org/a/1",
    "retrieved_timestamp": "1769000000",
    "source_metadata": {"source_type": "evaluation_run", "additional_details": {"mergeboard": "{}"}},
    "eval_library": {"name": "lm_eval", "version": "0.4.9"},
    "model_info": {"name": "a", "id": "org/a", "additional_details": {"dtype": "bfloat16"}},
    "evaluation_results": [
        {
            "evaluation_name": "x/strict",
            "metric_config": {
                "evaluation_description": "acc (filter: strict)",
                "lower_is_better": False,
                "min_score": 0,
                "max_score": 1,
            },
            "score_details": {"score": 0.5, "uncertainty": {"num_samples": 10}},
        }
    ],
    "detailed_evaluation_results": {"format": "jsonl", "file_path": "data/a/b/c/d_samples.jsonl"},
}
STAMP = "2026-08-10T17-22-11.385681"


def lighteval_results(model: str, answers: dict[str, Sequence[float]]) -> dict[str, Any]:
    """A results file."""
    results: dict[str, Any] = {
        key: {"em": sum(v) / len(v), "em_stderr": 0.01, "f1": 0.5, "f1_stderr": 0.02}
        for key, v in answers.items()
    }
    results["all"] = {"em": 0.5, "em_stderr": 0.01}
    configs = {
        key: {
            "name": key.partition("|")[0],
            "hf_repo": f"hub/{key.partition('|')[0]}",
            "hf_subset": "default",
            "metrics": [
                {"metric_name": "em", "higher_is_better": True, "category": "GENERATIVE"},
                {"metric_name": "f1", "higher_is_better": True, "category": "GENERATIVE"},
            ],
            "original_num_docs": -1,
            "effective_num_docs": -1,
            "num_fewshots": 0,
            "version": 1,
        }
        for key in answers
    }
    return {
        "config_general": {
            "lighteval_sha": "?",
            "num_fewshot_seeds": 1,
            "max_samples": None,
            "job_id": "0",
            "model_config": {
                "model_name": model,
                "generation_parameters": {"temperature": 0, "num_blocks": None},
                "system_prompt": None,
                "dtype": "bfloat16",
            },
            "model_name": model,
        },
        "results": results,
        "versions": {},
        "config_tasks": configs,
        "summary_tasks": {},
        "summary_general": {},
    }


def write_lighteval(
    folder: Path, model: str, answers: dict[str, Sequence[float]], *, details: bool = True
) -> Path:
    """`results/MODEL/results_STAMP.json` and `details/MODEL/STAMP/details_KEY_STAMP.parquet` below a folder."""
    data = lighteval_results(model, answers)
    path = folder / "results" / model / f"results_{STAMP}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    for key, values in answers.items() if details else ():
        rows = [
            {
                "doc": {
                    "query": f"Question {i}?",
                    "choices": [f"{i}"],
                    "gold_index": 0,
                    "id": str(i),
                    "sampling_methods": ["GENERATIVE"],
                },
                "metric": {"em": v, "f1": v / 2},
                "model_response": {"text": [f"It is {i}."], "text_post_processed": None, "logprobs": []},
            }
            for i, v in enumerate(values)
        ]
        target = folder / "details" / model / STAMP / f"details_{key}_{STAMP}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), target)
    return path


def inspect_log(
    model: str,
    values: Sequence[float],
    *,
    task: str = "inspect_evals/arc_easy",
    epochs: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """A log of version 2, its letters C and I for right and wrong answers."""
    samples = [
        {
            "id": f"q-{i}",
            "epoch": epoch + 1,
            "input": f"Question {i}?",
            "choices": ["yes", "no"],
            "target": "A",
            "messages": [{"role": "user", "content": "x"}],
            "output": {
                "completion": f"ANSWER: {i}",
                "choices": [{"message": {"content": "x"}, "stop_reason": "stop"}],
            },
            "scores": {"choice": {"value": "C" if v else "I", "answer": "A" if v else "B", "history": []}},
            "events": [{"event": "sample_init"}],
        }
        for i, v in enumerate(values)
        for epoch in range(epochs)
    ]
    mean = sum(values) / len(values)
    metrics = {
        "accuracy": {"name": "accuracy", "value": mean, "params": {}},
        "stderr": {"name": "stderr", "value": 0.02, "params": {}},
    }
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "created": "2025-10-21T01:12:03+02:00",
            "task": task,
            "task_version": 0,
            "task_args": {},
            "dataset": {"name": "allenai/ai2_arc", "location": "allenai/ai2_arc", "samples": len(values)},
            "model": f"hf/{model}",
            "model_generate_config": {"max_connections": 8},
            "model_args": {},
            "config": {"epochs": epochs, "epochs_reducer": ["mean"]},
            "packages": {"inspect_ai": "0.3.138"},
        },
        "results": {
            "total_samples": len(values),
            "completed_samples": len(values),
            "scores": [{"name": "choice", "scorer": "choice", "metrics": metrics}],
        },
        "stats": {"completed_at": "2025-10-21T01:12:16+02:00"},
        "samples": samples,
    }
    return {**log, **changes}


def write_archive(path: Path, log: dict[str, Any], *, zstandard: bool = False) -> Path:
    """A log as an `.eval` archive; with `zstandard` its members are compressed as newer versions of Inspect do."""
    header = {k: v for k, v in log.items() if k != "samples"}
    members = {"_journal/start.json": {"version": 2}, "header.json": header, "summaries.json": []}
    members |= {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in log["samples"]}
    buffer = io.BytesIO()
    sizes = {}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if zstandard else zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            data = json.dumps(member).encode()
            sizes[name] = len(data)
            archive.writestr(name, pa.compress(data, codec="zstd", asbytes=True) if zstandard else data)
        infos = archive.infolist()
    packed = bytearray(buffer.getvalue())
    if zstandard:  # method 93 and the unpacked size, in the local headers and in the central directory
        at = packed.index(b"PK\x01\x02")
        for info in infos:
            struct.pack_into("<H", packed, info.header_offset + 8, 93)
            struct.pack_into("<I", packed, info.header_offset + 22, sizes[info.filename])
            struct.pack_into("<H", packed, at + 10, 93)
            struct.pack_into("<I", packed, at + 24, sizes[info.filename])
            at += 46 + sum(struct.unpack_from("<HHH", packed, at + 28))
    path.write_bytes(bytes(packed))
    return path
