"""Every Eval Ever: exported files are valid and lose nothing on the way back; files of its lm-eval converter are imported."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft7Validator
from scipy.stats import binomtest

import evals
from evals.claims.facts import Fact
from orchestrator.compare.imported import imported_sides
from orchestrator.compare.run_comparisons import results_of_run, sides
from orchestrator.compare.sides import compare_names
from orchestrator.errors import StoreError
from orchestrator.exchange.every_eval import export_every_eval
from orchestrator.exchange.imports import import_path, import_paths
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.orchestrator.exchange.test_parquet import run_id, settings
from tests.support.lm_eval_files import Task, write_run

__all__ = ["run_id", "settings"]

SCHEMAS = Path(evals.__file__).parent / "exchange_schemas"
RESULTS, INSTANCES = (
    Draft7Validator(json.loads((SCHEMAS / name).read_text()))
    for name in ("eval.schema.json", "instance_level_eval.schema.json")
)


def validate(paths: tuple[Path, ...], out: Path) -> tuple[int, int]:
    """Check every file under its schema; the numbers of result files and of instances."""
    n_results = n_instances = 0
    for path in paths:
        if path.suffix == ".json":
            data = json.loads(path.read_text())
            RESULTS.validate(data)
            named = data.get("detailed_evaluation_results")
            if named is not None:
                content = (out / named["file_path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == named["checksum"]
                assert len(content.splitlines()) == named["total_rows"]
            n_results += 1
        else:
            for line in path.read_text().splitlines():
                INSTANCES.validate(json.loads(line))
                n_instances += 1
    return n_results, n_instances


def elsewhere(tmp_path: Path) -> Settings:
    home = tmp_path / "elsewhere"
    return Settings(home=home, database_url=f"sqlite:///{home}/store.sqlite", datasets=None, ray_address=None)


def test_a_run_is_valid_and_comes_back_whole(settings: Settings, run_id: str, tmp_path: Path) -> None:
    out = tmp_path / "eee"
    paths = export_every_eval(settings, out, run_id=run_id)
    n_results, n_instances = validate(paths, out)
    with Store.open(settings.database_url) as store:
        original = [s for r in results_of_run(store, run_id) for s in sides(r, settings.home)]
    assert n_results == len(original) > 1
    assert n_instances == 20 * len(original)
    assert export_every_eval(settings, tmp_path / "again", run_id=run_id)[0].name == paths[0].name
    other = elsewhere(tmp_path)
    taken = import_path(out, other)
    assert not taken.refused
    with Store.open(other.database_url) as store:
        back = [s for run in store.imports() for s in imported_sides(store, run.id, other.home) or []]

    def key(side: Any) -> tuple[str, ...]:
        m = side.measurement
        return m.checkpoint, m.result.benchmark, str(m.facts.get(Fact.ENGINE_VERSION)), str(m.result.raw)

    for left, right in zip(sorted(back, key=key), sorted(original, key=key), strict=True):
        assert left.measurement == right.measurement
        assert left.samples == right.samples
    assert {s.measurement.facts.get(Fact.DEFINITION) for s in original} == {s.definition for s in back}


def test_imports_come_back_whole_and_compare_the_same(home: Path, tmp_path: Path) -> None:
    local = Settings.from_environment()
    rng = np.random.default_rng(1)
    base = [float(v) for v in rng.uniform(size=120) < 0.5]
    other = [1.0 - v if i < 15 else v for i, v in enumerate(base)]
    tasks = {"a": base, "b": other}
    for name, values in tasks.items():
        graded = Task("graded", {"f1": [round(v * 0.7, 3) for v in values]}, "generate_until")
        write_run(tmp_path / name, [Task("x|y", {"acc": values}), graded], model=f"org/{name}")
    write_run(tmp_path / "c", [Task("bare", {"acc": base})], model="org/c", samples=False)
    import_paths([tmp_path / name for name in "abc"], local)
    out = tmp_path / "eee"
    assert validate(export_every_eval(local, out), out) == (5, 480)
    away = elsewhere(tmp_path)
    import_path(out, away)
    compared = []
    for where in (local, away):
        with Store.open(where.database_url) as store:
            (comparison,) = compare_names(store, ["org/b"], "org/a", where.home)
        compared.append(sorted(comparison.model_copy(update={"rows": ()}).model_dump_json()))
        compared.append(sorted(row.model_dump_json() for row in comparison.rows))
    assert compared[:2] == compared[2:]
    again = tmp_path / "again"
    export_every_eval(away, again)
    assert validate(tuple(p for p in again.rglob("*.json*")), again) == (5, 480)


def test_altered_figures_are_believed_rather_than_our_own_record(home: Path, tmp_path: Path) -> None:
    local = Settings.from_environment()
    write_run(tmp_path / "a", [Task("x", {"acc": [1.0] * 30 + [0.0] * 10})])
    import_path(tmp_path / "a", local)
    result, _ = export_every_eval(local, tmp_path / "eee")
    data = json.loads(result.read_text())
    data["evaluation_results"][1]["score_details"]["score"] = 0.5
    result.write_text(json.dumps(data))
    (taken,) = import_path(tmp_path / "eee", elsewhere(tmp_path)).runs
    by_name = {r.benchmark: r for r in taken.results}
    assert by_name["x"].measurement.result.raw == 0.5
    assert any("The samples give 75.00" in p for p in by_name["x"].problems)


def test_samples_that_are_gone_stop_the_export(home: Path, tmp_path: Path) -> None:
    local = Settings.from_environment()
    write_run(tmp_path / "a", [Task("x", {"acc": [1.0, 0.0]})])
    (taken,) = import_path(tmp_path / "a", local).runs
    (local.home / str(taken.results[0].samples_path)).unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        export_every_eval(local, tmp_path / "eee")


def converted(
    folder: Path, model: str, values: list[float], name: str = "0b7a3a10-1111-4222-8333-444455556666"
) -> Path:
    """A result file with instances as the converter `every_eval_ever convert lm_eval` writes them."""
    folder.mkdir(parents=True)
    evaluation = f"math_cot/{model}/1769000000"
    samples = folder / f"{name}_samples.jsonl"
    rows = [
        {
            "schema_version": "0.2.2",
            "evaluation_id": evaluation,
            "model_id": model,
            "evaluation_name": "math_cot/strict-match",
            "evaluation_result_id": None,
            "sample_id": str(i),
            "sample_hash": hashlib.sha256(str(i).encode()).hexdigest(),
            "interaction_type": "single_turn",
            "input": {"raw": f"Question {i}?", "formatted": None, "reference": [str(i)], "choices": None},
            "output": {"raw": [f"It is {i}."], "reasoning_trace": None},
            "messages": None,
            "answer_attribution": [
                {
                    "turn_idx": 0,
                    "source": "output.raw",
                    "extracted_value": str(i),
                    "extraction_method": "strict-match",
                    "is_terminal": True,
                }
            ],
            "evaluation": {"score": v, "is_correct": v == 1.0, "num_turns": None, "tool_calls_count": None},
            "metadata": {
                "doc_hash": hashlib.sha256(f"doc {i}".encode()).hexdigest(),
                "prompt_hash": hashlib.sha256(f"prompt {i}".encode()).hexdigest(),
                "target_hash": "t",
                "filter": "strict-match",
                "lm_eval_metrics": json.dumps({"exact_match": v}),
            },
        }
        for i, v in enumerate(values)
    ]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "schema_version": "0.2.2",
        "evaluation_id": evaluation,
        "evaluation_timestamp": "1768966000",
        "retrieved_timestamp": "1769000000",
        "source_metadata": {
            "source_name": "lm-evaluation-harness",
            "source_type": "evaluation_run",
            "source_organization_name": "",
            "evaluator_relationship": "first_party",
        },
        "eval_library": {"name": "lm_eval", "version": "0.4.9"},
        "model_info": {
            "name": model,
            "id": model,
            "developer": "org",
            "inference_platform": "unknown",
            "inference_engine": {"name": "transformers"},
            "additional_details": {"dtype": "torch.bfloat16", "sha": "abc"},
        },
        "evaluation_results": [
            {
                "evaluation_name": "math_cot/strict-match",
                "source_data": {
                    "dataset_name": "math_cot",
                    "source_type": "hf_dataset",
                    "hf_repo": "org/math",
                },
                "metric_config": {
                    "evaluation_description": "exact_match (filter: strict-match)",
                    "lower_is_better": False,
                    "score_type": "continuous",
                    "min_score": 0.0,
                    "max_score": 1.0,
                },
                "score_details": {
                    "score": sum(values) / len(values),
                    "uncertainty": {
                        "standard_error": {"value": 0.02, "method": "bootstrap"},
                        "num_samples": len(values),
                    },
                },
                "generation_config": {
                    "generation_args": {"temperature": 0.0},
                    "additional_details": {"num_fewshot": "4", "until": '["\\n"]'},
                },
            }
        ],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": str(samples),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(samples.read_bytes()).hexdigest(),
            "total_rows": len(values),
        },
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data))
    return path


def test_the_converters_files_are_imported_and_compared(home: Path, tmp_path: Path) -> None:
    local = Settings.from_environment()
    base = [float(i % 3 == 0) for i in range(150)]
    other = [1.0 if i < 30 else v for i, v in enumerate(base)]
    a = converted(tmp_path / "a", "org/a", base)
    converted(tmp_path / "b", "org/b", other)
    (first, _) = import_paths([tmp_path / "a", tmp_path / "b"], local).runs
    (result,) = first.results
    assert (result.suite, result.benchmark) == ("lm-eval", "math_cot")
    assert result.measurement.result.metric == "exact_match,strict-match"
    assert result.measurement.facts.known[Fact.SHOTS] == "4"
    with Store.open(local.database_url) as store:
        (comparison,) = compare_names(store, [str(tmp_path / "b")], str(a), local.home)
    (row,) = comparison.rows
    assert row.delta is not None
    assert row.delta.p == pytest.approx(binomtest(20, 20).pvalue)
    samples = next((tmp_path / "a").glob("*.jsonl"))
    samples.write_text(samples.read_text().replace('"score": 1.0', '"score": 0.0'))
    (again,) = import_path(tmp_path / "a", local).runs
    assert again.results[0].samples_path is None
    assert "their checksum is another" in again.run.problems[0]


def test_a_percentage_and_an_unknown_range(home: Path, tmp_path: Path) -> None:
    path = converted(tmp_path / "a", "org/a", [1.0, 0.0])
    data = json.loads(path.read_text())
    (result,) = data["evaluation_results"]
    del data["detailed_evaluation_results"]
    next(path.parent.glob("*.jsonl")).unlink()
    percent = {"metric_name": "score", "metric_unit": "percent", "lower_is_better": False}
    rating = {"metric_name": "rating", "lower_is_better": False, "min_score": 1, "max_score": 10}
    lower = {"metric_name": "wer", "lower_is_better": True, "min_score": 0, "max_score": 1}
    data["evaluation_results"] = [
        {**result, "evaluation_name": name, "metric_config": config, "score_details": {"score": score}}
        for name, config, score in (("a", percent, 45.5), ("b", rating, 5.5), ("c", lower, 0.2))
    ]
    path.write_text(json.dumps(data))
    (taken,) = import_path(path, Settings.from_environment()).runs
    raw = {r.benchmark: r.measurement.result.raw for r in taken.results}
    assert raw == {"a": pytest.approx(0.455), "b": pytest.approx(0.5), "c": pytest.approx(0.2)}
    lower = {r.benchmark: r.definition is not None and r.definition.lower_is_better for r in taken.results}
    assert lower == {"a": False, "b": False, "c": True}
