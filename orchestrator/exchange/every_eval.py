"""Export evaluations and imported results in the format of Every Eval Ever, schema 0.3.0.

One result file and one file of instances per evaluation of one benchmark, laid out as that data set is:
`data/BENCHMARK/DEVELOPER/MODEL/UUID.json` and `UUID_samples.jsonl`. The public fields hold the scores of every subset and metric,
the benchmark's own value with its interval, and how it was measured. mergeboard's record of the measurement is kept as text in
`source_metadata.additional_details`, and of each sample in `metadata`, so that an import of the files loses nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.claims.facts import Fact
from evals.claims.records import Measurement
from evals.results_files.every_eval import OWN, OwnRecord
from evals.results_files.unlisted import is_lower_by_name
from evals.scores import Sample, Score
from evals.suite import Benchmark
from orchestrator.compare.imported import imported_sides
from orchestrator.compare.measurement import Side
from orchestrator.compare.run_comparisons import CandidateResult, definition, results_of_run, sides
from orchestrator.errors import RunError, StoreError
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.claim_records import ImportedResultRecord, ImportedRunRecord
from orchestrator.version import version
from recipes.atomic_file import atomic_file
from recipes.layer_visit import visit_text

SCHEMA_VERSION = "0.3.0"
_BATCH = 1_000
_SHOWN = "mergeboard"


@dataclass(frozen=True)
class _Item:
    """One evaluation to write."""

    measurement: Measurement
    samples: tuple[Sample, ...]
    suite: str
    digest: str
    definition: Benchmark | None
    measured_at: datetime.datetime | None
    details: dict[str, str] = field(default_factory=dict)


def export_every_eval(settings: Settings, out: Path, *, run_id: str | None = None) -> tuple[Path, ...]:
    """Write the store, or one of its runs, into a folder; returns the result files and their instances.

    Raises StoreError if samples are missing or altered, or if the folder cannot be written.
    """
    paths: list[Path] = []
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        for item in _items(store, settings.home, run_id):
            try:
                paths += _write(item, out)
            except OSError as error:
                raise StoreError(
                    f"{out} cannot be written ({error.strerror or error}); give another folder with --out."
                ) from error
    return tuple(paths)


def _items(store: Store, home: Path, run_id: str | None) -> Iterator[_Item]:
    if run_id is not None:
        yield from _run_items(store, home, run_id)
        return
    offset = 0
    while page := store.runs(limit=_BATCH, offset=offset):
        offset += len(page)
        for run in page:
            yield from _run_items(store, home, run.id)
    imports = store.imports(limit=100_000)
    results = store.imported_results(run.id for run in imports)
    for imported in imports:
        yield from _import_items(store, home, imported, results.get(imported.id, ()))


def _run_items(store: Store, home: Path, run_id: str) -> Iterator[_Item]:
    for result in results_of_run(store, run_id):
        for side in _main_stages(sides(result, home)):
            yield _candidate_item(result, side)


def _main_stages(found: Sequence[Side]) -> list[Side]:
    """The side of each benchmark's main scoring stage; the others are scores of the same samples."""
    first: dict[tuple[str | None, str], Side] = {}
    for side in found:
        measurement = side.measurement
        first.setdefault((measurement.facts.get(Fact.SUITE), measurement.result.benchmark), side)
    return list(first.values())


def _candidate_item(result: CandidateResult, side: Side) -> _Item:
    measurement, candidate = side.measurement, result.candidate
    suite = measurement.facts.known[Fact.SUITE]
    job, outcome = next(
        (j, o) for j, o in result.evaluated if (j.suite, j.benchmark) == (suite, measurement.result.benchmark)
    )
    details = {
        "run_id": result.run_id,
        "job_digest": job.digest,
        "weights_digest": candidate.weights_digest,
        "host": outcome.hardware.host,
        "duration_s": f"{outcome.evaluation.duration_s:.3f}",
    }
    if candidate.recipe:
        details["recipe"] = candidate.recipe
    if candidate.made_from:
        details["made_from"] = json.dumps(
            [entry.model_dump(exclude_none=True) for entry in candidate.made_from]
        )
    if candidate.layer_path is not None:
        details["layer_path"] = json.dumps([visit_text(v) for v in candidate.layer_path])
    shipped = definition(suite, measurement.result.benchmark) is not None
    return _Item(
        measurement=measurement,
        samples=side.samples,
        suite=suite,
        digest=outcome.evaluation.benchmark_digest,
        definition=None if shipped else side.benchmark,
        measured_at=outcome.ended_at,
        details=details,
    )


def _import_items(
    store: Store, home: Path, run: ImportedRunRecord, results: Sequence[ImportedResultRecord]
) -> Iterator[_Item]:
    try:
        sides = imported_sides(store, run.id, home) or []
    except RunError as error:
        raise StoreError(str(error)) from error
    for result, side in zip(results, sides, strict=True):
        if result.samples_path is not None and not side.samples:
            reason = side.unfit or "they are gone"
            raise StoreError(
                f"The samples of {result.benchmark} in import {run.id} cannot be read: {reason}."
            )
        details = {"import_id": run.id, "imported_from": run.format.value}
        if result.stage is not None:
            details["stage"] = result.stage
        if run.revision is not None:
            details["revision"] = run.revision
        yield _Item(
            measurement=result.measurement,
            samples=side.samples,
            suite=result.suite,
            digest=result.benchmark_digest,
            definition=result.definition,
            measured_at=run.measured_at,
            details=details,
        )


def _write(item: _Item, out: Path) -> list[Path]:
    model_id = item.measurement.checkpoint
    developer, _, name = model_id.rpartition("/")
    folder = Path("data") / _folder(f"{item.suite}_{item.measurement.result.benchmark}")
    folder = folder / _folder(developer or _SHOWN) / _folder(name)
    key = json.dumps([item.digest, item.suite, model_id, sorted(item.details.items())], ensure_ascii=True)
    key += item.measurement.model_dump_json()
    # A version-4 UUID, as the schema asks, that is the same for the same evaluation.
    identity = str(uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16], version=4))
    evaluation_id = f"{item.suite}.{item.measurement.result.benchmark}/{model_id}/{identity}"
    paths = []
    detailed: dict[str, Any] | None = None
    if item.samples:
        relative = folder / f"{identity}_samples.jsonl"
        lines = [
            json.dumps(_instance(item, sample, evaluation_id), ensure_ascii=False, allow_nan=False)
            for sample in item.samples
        ]
        data = ("\n".join(lines) + "\n").encode("utf-8")
        paths.append(_put(out / relative, data))
        detailed = {
            "format": "jsonl",
            "file_path": relative.as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(data).hexdigest(),
            "total_rows": len(item.samples),
        }
    record = _record(item, evaluation_id, detailed)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return [_put(out / folder / f"{identity}.json", text.encode("utf-8")), *paths]


def _put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        draft.write_bytes(data)
    return path


def _record(item: _Item, evaluation_id: str, detailed: dict[str, Any] | None) -> dict[str, Any]:
    measurement, facts = item.measurement, item.measurement.facts
    own = OwnRecord(
        suite=item.suite,
        benchmark_digest=item.digest,
        measurement=measurement,
        definition=item.definition,
    )
    stamp = str(int(item.measured_at.timestamp())) if item.measured_at is not None else None
    conditions = {fact.name.lower(): value for fact, value in facts.known.items()}
    harness = facts.get(Fact.HARNESS) or "unknown"
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "retrieved_timestamp": stamp or "0",
        "source_metadata": {
            "source_name": "mergeboard",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": {
                OWN: json.dumps(own.model_dump(mode="json")),
                "mergeboard_version": version(),
            },
        },
        "eval_library": {
            "name": {"lm-eval": "lm_eval", "inspect": "inspect_ai"}.get(harness, harness),
            "version": facts.get(Fact.HARNESS_VERSION) or "unknown",
            "additional_details": conditions,
        },
        "model_info": _model(item),
        "evaluation_results": _results(item, evaluation_id, stamp),
    }
    if stamp is not None:
        record["evaluation_timestamp"] = stamp
    if detailed is not None:
        record["detailed_evaluation_results"] = detailed
    return record


def _model(item: _Item) -> dict[str, Any]:
    facts, checkpoint = item.measurement.facts, item.measurement.checkpoint
    developer, _, name = checkpoint.rpartition("/")
    details = {"deployment_type": "self_deployed", "model_availability": "unknown", **item.details}
    if Fact.DTYPE in facts.known:
        details["dtype"] = facts.known[Fact.DTYPE]
    model: dict[str, Any] = {"name": name or checkpoint, "id": checkpoint, "additional_details": details}
    if developer:
        model["developer"] = developer
    if Fact.ENGINE in facts.known:
        engine = {"name": facts.known[Fact.ENGINE]}
        if Fact.ENGINE_VERSION in facts.known:
            engine["version"] = facts.known[Fact.ENGINE_VERSION]
        model["inference_engine"] = engine
    return model


def _results(item: _Item, evaluation_id: str, stamp: str | None) -> list[dict[str, Any]]:
    """The benchmark's own value with its interval, then every metric of every subset."""
    measurement = item.measurement
    result, estimate = measurement.result, measurement.estimate
    source = {"dataset_name": result.title, "source_type": "other"}
    overall: dict[str, Any] = {
        "evaluation_result_id": f"{evaluation_id}#benchmark",
        "evaluation_name": f"{item.suite}/{result.benchmark}",
        "source_data": source,
        "metric_config": {
            "evaluation_description": f"{result.title}, {result.metric}, on its leaderboard's scale",
            "metric_name": "benchmark value",
            "metric_unit": "percent",
            **_range(result.metric, result.normalized, 100),
        },
        "score_details": {
            "score": result.normalized,
            "details": {"raw": repr(result.raw), **({"remark": result.remark} if result.remark else {})},
            "uncertainty": {
                "standard_error": {"value": estimate.stderr_points, "method": "bootstrap"},
                "confidence_interval": {
                    "lower": estimate.interval.low,
                    "upper": estimate.interval.high,
                    "confidence_level": estimate.interval.level,
                    "method": "bootstrap over questions",
                },
                "num_samples": estimate.n,
            },
        },
    }
    rows = [overall, *(_subset(item, score, evaluation_id) for score in measurement.scores)]
    return [{**row, "evaluation_timestamp": stamp} if stamp is not None else row for row in rows]


def _range(metric: str, value: float, top: int) -> dict[str, Any]:
    """Direction and range of a metric: from 0 to `top`, unless its name or value says that it has no bounds."""
    lower = is_lower_by_name(metric)
    return {
        "lower_is_better": lower,
        "score_type": "continuous",
        "min_score": 0 if value >= 0 else "-Infinity",
        "max_score": "Infinity" if lower or value > top else top,
    }


def _subset(item: _Item, score: Score, evaluation_id: str) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {"num_samples": score.n}
    if score.stderr is not None and math.isfinite(score.stderr):
        uncertainty["standard_error"] = {"value": score.stderr, "method": "analytic"}
    generation: dict[str, str] = {}
    if Fact.SHOTS in item.measurement.facts.known:
        generation["num_fewshot"] = item.measurement.facts.known[Fact.SHOTS]
    row: dict[str, Any] = {
        "evaluation_result_id": _result_id(evaluation_id, score.subset, score.metric),
        "evaluation_name": score.subset,
        "source_data": {"dataset_name": score.subset, "source_type": "other"},
        "metric_config": {
            "metric_name": score.metric,
            "evaluation_description": score.metric,
            **_range(score.metric, score.value, 1),
        },
        "score_details": {"score": score.value, "uncertainty": uncertainty},
    }
    return {**row, "generation_config": {"additional_details": generation}} if generation else row


def _instance(item: _Item, sample: Sample, evaluation_id: str) -> dict[str, Any]:
    # The store keeps hashes of documents and prompts, not their text.
    raw = f"(not stored; sha256 of the document begins with {sample.doc_hash})"
    main = item.measurement.result.metric.partition(" and ")[0]
    hashed = json.dumps({"raw": raw, "reference": sample.target}, sort_keys=True)
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "model_id": item.measurement.checkpoint,
        "evaluation_name": sample.subset,
        "evaluation_result_id": _result_id(evaluation_id, sample.subset, main),
        "sample_id": str(sample.doc_id),
        "sample_hash": hashlib.sha256(hashed.encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {
            "raw": raw,
            "reference": [sample.target],
            "choices": list(sample.choices) or None,
        },
        "output": {"raw": [sample.response]},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": sample.extracted or "",
                "extraction_method": "choice" if sample.choices else "filter",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": sample.correct, "is_correct": sample.correct == 1.0},
        "metadata": {
            "doc_hash": sample.doc_hash,
            "prompt_hash": sample.prompt_hash,
            # Text, so that an infinite log-probability stays what it is.
            OWN: json.dumps(sample.model_dump()),
        },
    }


def _result_id(evaluation_id: str, subset: str, metric: str) -> str:
    return f"{evaluation_id}#{subset}#{metric}"


def _folder(name: str) -> str:
    """A name as a folder's: the characters of model names, never only dots."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:100]
    return safe if safe.strip(".") else f"_{safe}"
