"""Reads results in the format of Every Eval Ever (schema 0.2 and 0.3), with the instances beside them.

A file that mergeboard exported carries its own records in the free fields, so that nothing is lost on the way back; they are
used if they agree with the figures that everybody reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evals.claims.facts import Fact, Facts
from evals.claims.records import Measurement
from evals.engine import Frozen
from evals.errors import ClaimError
from evals.results_files.foreign_run import (
    answer,
    assemble_foreign,
    document_count,
    document_ids,
    is_file,
    items,
    moment,
    number,
    section,
    text_of,
)
from evals.results_files.imported_run import (
    FileFormat,
    ImportedBenchmark,
    ImportedRun,
    ResultFile,
    TaskResult,
)
from evals.results_files.samples import entries
from evals.scores import Sample
from evals.suite import Benchmark, OutputKind

OWN = "mergeboard"
"""Key of mergeboard's own record in `source_metadata.additional_details`, and of a sample in an instance's `metadata`."""
_TOOLS = {
    "lm_eval": "lm-eval",
    "lm-eval": "lm-eval",
    "lm-evaluation-harness": "lm-eval",
    "inspect_ai": "inspect",
}
_FILTER = re.compile(r"(?P<metric>.+?) \(filter: (?P<filter>[^)]+)\)$")
_MAX_ERROR = 1e-9


class OwnRecord(Frozen):
    """What mergeboard writes of one of its evaluations beside the public fields."""

    suite: str
    benchmark_digest: str
    measurement: Measurement
    definition: Benchmark | None = None


def is_every_eval(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a result file of Every Eval Ever."""
    return isinstance(data.get("evaluation_results"), list) and "schema_version" in data


def read_every_eval(data: Mapping[str, Any], path: Path) -> ImportedRun:
    """The run in a file, with its instances. Raises ClaimError if it has no results."""
    results = [r for r in items(data.get("evaluation_results")) if isinstance(r, dict)]
    if not results:
        raise ClaimError(f"{path} has no evaluation_results; give a result file of Every Eval Ever.")
    model, library = section(data, "model_info"), section(data, "eval_library")
    tool = text_of(library.get("name")) or "unknown"
    suite = _TOOLS.get(tool.lower(), tool)
    scales = {_name(r): _Scale.of(r) for r in results}
    instances, problems = _instances(data, path)
    own = _own_run(data, results, instances, path)
    if own is not None:
        return own
    answers = _answers(instances, results, scales, path)
    tasks = _tasks(results, scales, {task: len(samples) for task, samples in answers.items()})
    details = section(model, "additional_details")
    engine = section(model, "inference_engine")
    file = ResultFile(
        source=str(path),
        format=FileFormat.EVERY_EVAL,
        checkpoint=text_of(model.get("id")) or text_of(model.get("name")) or "unknown",
        revision=text_of(details.get("sha")) or text_of(details.get("revision")),
        measured_at=moment(data.get("evaluation_timestamp"))
        or moment(results[0].get("evaluation_timestamp")),
        facts=Facts().plus(
            {
                Fact.HARNESS: suite,
                Fact.HARNESS_VERSION: _known(library.get("version")),
                Fact.ENGINE: text_of(engine.get("name")),
                Fact.ENGINE_VERSION: text_of(engine.get("version")),
                Fact.DTYPE: (text_of(details.get("dtype")) or "").removeprefix("torch.") or None,
            }
        ),
        tasks=tuple(tasks),
    )
    return assemble_foreign(file, suite, answers, problems)


class _Scale(Frozen):
    """How a metric is brought to a fraction: (value - low) / (high - low)."""

    low: float
    high: float
    lower_is_better: bool

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> _Scale:
        config = section(result, "metric_config")
        low, high = number(config.get("min_score")), number(config.get("max_score"))
        score = number(section(result, "score_details").get("score")) or 0.0
        if config.get("max_score") == "Infinity":
            low, high = 0.0, 1.0  # no share: as it is
        elif low is None or high is None or not low < high:
            unit = (text_of(config.get("metric_unit")) or "").lower()
            low, high = 0.0, 100.0 if unit.startswith("percent") or 1 < score <= 100 else 1.0
        return cls(low=low, high=high, lower_is_better=config.get("lower_is_better") is True)

    def fraction(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def width(self, value: float) -> float:
        return value / (self.high - self.low)


def _name(result: Mapping[str, Any]) -> tuple[str, str]:
    """Task and metric of a result; lm-eval's converter writes the filter into both names."""
    config = section(result, "metric_config")
    task = text_of(result.get("evaluation_name")) or "evaluation"
    metric = next(
        (t for k in ("metric_name", "metric_id", "evaluation_description") if (t := text_of(config.get(k)))),
        "score",
    )
    match = _FILTER.match(metric)
    if match is None:
        return task, metric
    return task.removesuffix(f"/{match['filter']}"), f"{match['metric']},{match['filter']}"


def _tasks(
    results: Sequence[Mapping[str, Any]],
    scales: Mapping[tuple[str, str], _Scale],
    counts: Mapping[str, int],
) -> list[TaskResult]:
    by_task: dict[str, dict[str, Mapping[str, Any]]] = {}
    for result in results:
        task, metric = _name(result)
        if number(section(result, "score_details").get("score")) is not None:
            by_task.setdefault(task, {})[metric] = result
    return [_task(task, metrics, scales, counts.get(task)) for task, metrics in by_task.items()]


def _task(
    task: str,
    metrics: Mapping[str, Mapping[str, Any]],
    scales: Mapping[tuple[str, str], _Scale],
    count: int | None,
) -> TaskResult:
    first = next(iter(metrics.values()))
    source, generation = section(first, "source_data"), section(first, "generation_config")
    values, stderrs, n = {}, {}, count
    for metric, result in metrics.items():
        details, scale = section(result, "score_details"), scales[task, metric]
        uncertainty = section(details, "uncertainty")
        values[metric] = scale.fraction(number(details.get("score")) or 0.0)
        stderr = number(section(uncertainty, "standard_error").get("value"))
        if stderr is not None:
            stderrs[metric] = scale.width(stderr)
        n = (
            n
            or document_count(uncertainty.get("num_samples"))
            or document_count(source.get("samples_number"))
        )
    extra = section(generation, "additional_details")
    shots = text_of(extra.get("num_fewshot")) or text_of(extra.get("num_fewshots"))
    return TaskResult(
        key=task,
        metrics=values,
        stderrs=stderrs,
        n=n,
        n_full=n,
        shots=int(shots) if shots is not None and shots.isdigit() and len(shots) < 5 else None,
        preferred=tuple(values),
        lower_is_better=tuple(m for m in values if scales[task, m].lower_is_better),
        output=OutputKind.GENERATION if section(generation, "generation_args") else None,
        dataset=text_of(source.get("hf_repo")) or text_of(source.get("dataset_name")),
    )


def _instances(data: Mapping[str, Any], path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The instances of a file: named in it, or beside it; not used, with the reason, if they are not those."""
    details = section(data, "detailed_evaluation_results")
    named = text_of(details.get("file_path"))
    candidates = [path.with_name(f"{path.stem}_samples.jsonl")]
    if named is not None:
        candidates.insert(0, path.with_name(Path(named).name))
    file = next((c for c in candidates if is_file(c)), None)
    if file is None:
        return [], [f"Its instances ({Path(named).name}) are not beside it."] if named is not None else []
    checksum = text_of(details.get("checksum"))
    if checksum and details.get("hash_algorithm") in ("sha256", "md5"):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, str(details["hash_algorithm"])).hexdigest()
        if digest != checksum.lower():
            return [], [f"Its instances ({file.name}) are not used: their checksum is another."]
    evaluation_id = data.get("evaluation_id")
    rows = [row for row in entries(file) if row.get("evaluation_id") == evaluation_id]
    return rows, [] if rows else [
        f"Its instances ({file.name}) are not used: they are of another evaluation."
    ]


def _answers(
    instances: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    scales: Mapping[tuple[str, str], _Scale],
    path: Path,
) -> dict[str, list[Sample]]:
    """The answers by task; an instance gives one metric, or all where lm-eval's or lighteval's converter kept them."""
    by_id = {r["evaluation_result_id"]: _name(r) for r in results if text_of(r.get("evaluation_result_id"))}
    by_name: dict[str, tuple[str, str]] = {}
    for result in results:
        by_name.setdefault(str(result.get("evaluation_name")), _name(result))
    grouped: dict[str, dict[str, tuple[Mapping[str, Any], dict[str, float]]]] = {}
    for row in instances:
        target = by_id.get(row.get("evaluation_result_id")) or by_name.get(str(row.get("evaluation_name")))
        if target is None:
            continue
        task, metric = target
        rows = grouped.setdefault(task, {})
        first, values = rows.setdefault(str(row.get("sample_id")), (row, {}))
        del first
        values |= _metric_values(row, task, metric, scales)
    answers: dict[str, list[Sample]] = {}
    for task, rows in grouped.items():
        numbers = document_ids(list(rows), str(path))
        answers[task] = [
            _answer(task, numbers[i], row, values) for i, (row, values) in rows.items() if values
        ]
    return answers


def _metric_values(
    row: Mapping[str, Any], task: str, metric: str, scales: Mapping[tuple[str, str], _Scale]
) -> dict[str, float]:
    metadata = section(row, "metadata")
    kind = text_of(metadata.get("filter"))
    values: dict[str, float] = {}
    for key in ("lm_eval_metrics", "lighteval_metrics"):
        try:
            kept = json.loads(str(metadata.get(key) or "{}"))
        except ValueError:
            kept = {}
        for name, value in kept.items() if isinstance(kept, dict) else ():
            label = f"{name},{kind}" if kind not in (None, "none") else str(name)
            scale, parsed = scales.get((task, label)), number(value)
            if scale is not None and parsed is not None:
                values[label] = scale.fraction(parsed)
    score = number(section(row, "evaluation").get("score"))
    if score is not None and metric not in values:
        values[metric] = scales[task, metric].fraction(score)
    return values


def _answer(task: str, doc_id: int, row: Mapping[str, Any], metrics: Mapping[str, float]) -> Sample:
    given, output, metadata = section(row, "input"), section(row, "output"), section(row, "metadata")
    raw, formatted = text_of(given.get("raw")) or "", text_of(given.get("formatted"))
    reference = [str(r) for r in items(given.get("reference"))]
    attribution = next((a for a in items(row.get("answer_attribution")) if isinstance(a, dict)), {})
    responses = [str(r) for r in items(output.get("raw"))]
    sample = answer(
        task,
        doc_id,
        document=[raw, reference],
        prompt=formatted or raw,
        metrics=metrics,
        main=next(iter(metrics)),
        target=", ".join(reference),
        response=responses[0] if responses else "",
        extracted=text_of(attribution.get("extracted_value")),
    )
    hashes = {
        "doc_hash": text_of(metadata.get("doc_hash")),
        "prompt_hash": text_of(metadata.get("prompt_hash")),
    }
    return sample.model_copy(update={k: v[:16] for k, v in hashes.items() if v})


def _own_run(
    data: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    instances: Sequence[Mapping[str, Any]],
    path: Path,
) -> ImportedRun | None:
    """The run that mergeboard exported; None for other files, and if its record does not fit the public figures."""
    text = section(section(data, "source_metadata"), "additional_details").get(OWN)
    if not isinstance(text, str):
        return None
    try:
        record = OwnRecord.model_validate(json.loads(text))
        samples = [
            (Sample.model_validate(json.loads(str(section(row, "metadata").get(OWN)))), row)
            for row in instances
        ]
    except (ValidationError, ValueError):
        return None
    scores = {_name(r): number(section(r, "score_details").get("score")) for r in results}
    known = {(s.subset, s.metric): s.value for s in record.measurement.scores}
    same = all(abs((scores.get(k) or 0.0) - v) < _MAX_ERROR for k, v in known.items() if k in scores)
    fits = all(
        abs(s.correct - (number(section(row, "evaluation").get("score")) or 0.0)) < _MAX_ERROR
        for s, row in samples
    )
    if not same or not fits or not set(known) <= set(scores):
        return None
    measurement = record.measurement
    benchmark = ImportedBenchmark(
        suite=record.suite,
        measurement=measurement,
        definition=record.definition,
        digest=record.benchmark_digest,
        complete=True,
    )
    model = section(data, "model_info")
    file = ResultFile(
        source=str(path),
        format=FileFormat.EVERY_EVAL,
        checkpoint=measurement.checkpoint,
        revision=text_of(section(model, "additional_details").get("revision")),
        measured_at=moment(data.get("evaluation_timestamp")),
        facts=measurement.facts,
        tasks=(),
    )
    return ImportedRun(
        file=file,
        benchmarks=(benchmark,),
        suites=(),
        ignored=(),
        problems=(),
        answers={measurement.result.benchmark: tuple(sample for sample, _ in samples)},
    )


def _known(value: Any) -> str | None:
    text = text_of(value)
    return None if text == "unknown" else text
