"""Reads logs of Inspect (inspect_ai): JSON, and `.eval` archives, read as the ZIP files of JSON that they are."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from evals.claims.facts import Fact, Facts, limit_text
from evals.errors import ClaimError, first_line
from evals.outside_file import open_file, parse_json, storable
from evals.results_files.foreign_run import (
    answer,
    assemble_foreign,
    document_count,
    document_ids,
    items,
    moment,
    number,
    repeated_mean,
    section,
    text_of,
)
from evals.results_files.imported_run import FileFormat, ImportedRun, ResultFile, TaskResult
from evals.scores import Sample
from evals.suite import OutputKind

SUITE = "inspect"
# Inspect's letters: correct, incorrect, partial, no answer.
_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_LOCAL_PROVIDERS = ("hf", "vllm", "sglang", "nnterp", "llama-cpp-python")
_ERRORS = ("stderr", "std", "var", "bootstrap_stderr")
_NOT_SETTINGS = ("max_connections", "max_retries", "timeout", "attempt_timeout", "batch", "cache")
_ZSTANDARD = 93
_MAX_MEMBER = 64_000_000
_MAX_SAMPLES = 250_000
_MAX_TOTAL = 4_000_000_000


def is_inspect_log(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a log of Inspect."""
    return isinstance(data.get("eval"), dict) and "status" in data and "version" in data


def read_inspect_log(data: Mapping[str, Any], path: Path) -> ImportedRun:
    """The run in a log; ClaimError if it did not end with success or has no scores."""
    return _run(data, items(data.get("samples")), path)


def read_inspect_archive(path: Path) -> ImportedRun:
    """The run in an `.eval` archive. Raises ClaimError for a broken, unfinished or too large one."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            samples = [
                i for name, i in infos.items() if name.startswith("samples/") and name.endswith(".json")
            ]
            if len(samples) > _MAX_SAMPLES or sum(i.file_size for i in infos.values()) > _MAX_TOTAL:
                raise ClaimError(f"{path} holds more than a log can have; give the log of one run.")
            if "header.json" not in infos:
                raise ClaimError(
                    f"{path} has no header.json: its run did not end; give the log of a finished run."
                )
            header = _member(file, archive, infos["header.json"])
            read = [_reduced_sample(_member(file, archive, info)) for info in samples]
    except (
        OSError,  # Arrow raises it for data that is no Zstandard, without a number of the system
        zipfile.BadZipFile,
        struct.error,
        pa.ArrowException,
        ValueError,
        NotImplementedError,
    ) as error:
        if isinstance(error, OSError) and error.strerror:
            raise ClaimError(f"{path} cannot be read ({error.strerror}); give a log of Inspect.") from error
        reason = first_line(error)[:120]
        raise ClaimError(
            f"{path} is not a log of Inspect ({reason}); give an .eval file as Inspect wrote it."
        ) from error
    return _run(header if isinstance(header, dict) else {}, read, path)


def _member(file: BinaryIO, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """The JSON in a member. Newer versions of Inspect compress with Zstandard, which Python's zipfile cannot read."""
    if info.file_size > _MAX_MEMBER:
        raise ValueError(f"{info.filename} has {info.file_size:,} bytes")
    if info.compress_type != _ZSTANDARD:
        return parse_json(archive.read(info))
    file.seek(info.header_offset + 26)  # the lengths of name and extra field end the local header's 30 bytes
    lengths = struct.unpack("<HH", file.read(4))
    file.seek(sum(lengths), 1)
    packed = file.read(info.compress_size)
    return parse_json(pa.decompress(packed, decompressed_size=info.file_size, codec="zstd", asbytes=True))


def _reduced_sample(sample: Any) -> dict[str, Any]:
    """A sample without its events, messages and attachments, which are most of a log."""
    if not isinstance(sample, dict):
        return {}
    output = section(sample, "output")
    kept = {k: sample.get(k) for k in ("id", "epoch", "input", "target", "choices", "scores", "error")}
    return {**kept, "output": {"completion": output.get("completion"), "choices": output.get("choices")}}


def _run(log: Mapping[str, Any], samples: Sequence[Any], path: Path) -> ImportedRun:
    spec, results = section(log, "eval"), section(log, "results")
    if log.get("status") != "success":
        raise ClaimError(
            f"{path}: the run's status is {text_of(log.get('status')) or 'unknown'}; give the log of a successful run."
        )
    scores = [s for s in items(results.get("scores")) if isinstance(s, dict)]
    key = (text_of(spec.get("task")) or "task").rpartition("/")[2]
    metrics, stderrs, lead = _metrics(scores)
    if not metrics:
        raise ClaimError(f"{path} has no metric of a scorer; give the log of a scored run.")
    config = section(spec, "config")
    provider, _, rest = (text_of(spec.get("model")) or "unknown").partition("/")
    checkpoint = rest if provider in _LOCAL_PROVIDERS and rest else text_of(spec.get("model")) or "unknown"
    dataset = section(spec, "dataset")
    answers, problems = _answers(key, samples, lead, config, path)
    n = len(answers) or document_count(results.get("completed_samples"))
    n_full = document_count(dataset.get("samples"))
    file = ResultFile(
        source=str(path),
        format=FileFormat.INSPECT,
        checkpoint=checkpoint,
        revision=text_of(section(spec, "model_args").get("revision")),
        measured_at=moment(section(log, "stats").get("completed_at")) or moment(spec.get("created")),
        facts=_facts(spec, config, provider, full=n is not None and n == n_full),
        tasks=(
            TaskResult(
                key=key,
                metrics=metrics,
                stderrs=stderrs,
                version=text_of(spec.get("task_version")),
                n=n,
                n_full=max(n, n_full) if n is not None and n_full is not None else n,
                preferred=tuple(metrics),
                output=OutputKind.GENERATION,
                dataset=text_of(dataset.get("location")) or text_of(dataset.get("name")),
            ),
        ),
    )
    return assemble_foreign(file, SUITE, {key: answers}, problems)


def _metrics(
    scores: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """Values and standard errors by metric, and the scorer whose values a metric averages (accuracy and mean)."""
    values: dict[str, float] = {}
    stderrs: dict[str, float] = {}
    of_scorer: dict[str, str] = {}
    for score in scores:
        name, scorer = text_of(score.get("name")) or "score", text_of(score.get("scorer")) or "score"
        entries = section(score, "metrics")
        prefix = f"{name}/" if len(scores) > 1 else ""
        for metric, entry in entries.items():
            value = number(entry.get("value")) if isinstance(entry, dict) else None
            if value is None or metric in _ERRORS:
                continue
            values[f"{prefix}{metric}"] = value
            if metric in ("accuracy", "mean"):
                of_scorer[f"{prefix}{metric}"] = name if name == scorer or "/" in prefix else scorer
                stderr = number(section(entries, "stderr").get("value"))
                if stderr is not None:
                    stderrs[f"{prefix}{metric}"] = stderr
    return values, stderrs, of_scorer


def _answers(
    key: str,
    samples: Sequence[Any],
    lead: Mapping[str, str],
    config: Mapping[str, Any],
    path: Path,
) -> tuple[list[Sample], list[str]]:
    """The answers of a log, repetitions averaged; none, with the reason, if the scores are reduced in another way."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        if isinstance(sample, dict) and isinstance(sample.get("scores"), dict):
            by_id.setdefault(str(sample.get("id")), []).append(sample)
    reducers = [str(r) for r in items(config.get("epochs_reducer"))]
    repeated = any(len(group) > 1 for group in by_id.values())
    if repeated and reducers not in ([], ["mean"]):
        return [], [
            f"The samples are not used: repetitions are reduced by {', '.join(reducers)}, not by their mean."
        ]
    numbers = document_ids(list(by_id), str(path))
    answers = []
    for identity, group in by_id.items():
        values = [_values(section(sample, "scores"), lead) for sample in group]
        metrics = repeated_mean([v for v in values if v])
        if metrics:
            answers.append(_answer(key, numbers[identity], group[0], metrics, next(iter(lead), "")))
    return answers, []


def _values(scores: Mapping[str, Any], lead: Mapping[str, str]) -> dict[str, float]:
    """The value of every metric that is a mean over samples, from its scorer's value."""
    values = {}
    for metric, scorer in lead.items():
        entry = scores.get(scorer, next(iter(scores.values()), None) if len(scores) == 1 else None)
        value = entry.get("value") if isinstance(entry, dict) else None
        mapped = _LETTERS.get(value) if isinstance(value, str) else number(value)
        if mapped is not None:
            values[metric] = mapped
    return values


def _answer(
    key: str, doc_id: int, sample: Mapping[str, Any], metrics: Mapping[str, float], main: str
) -> Sample:
    score = next((s for s in section(sample, "scores").values() if isinstance(s, dict)), {})
    target = sample.get("target")
    output = section(sample, "output")
    stops = [c.get("stop_reason") for c in items(output.get("choices")) if isinstance(c, dict)]
    prompt = json.dumps(storable(sample.get("input")), sort_keys=True, default=str)
    return answer(
        key,
        doc_id,
        document=[sample.get("input"), sample.get("choices"), target],
        prompt=prompt,
        metrics=metrics,
        main=main,
        target=", ".join(map(str, target)) if isinstance(target, list) else str(target or ""),
        response=str(output.get("completion") or ""),
        extracted=text_of(score.get("answer")),
        truncated="max_tokens" in stops,
    )


def _facts(spec: Mapping[str, Any], config: Mapping[str, Any], provider: str, *, full: bool) -> Facts:
    settings = {k: v for k, v in section(spec, "model_generate_config").items() if k not in _NOT_SETTINGS}
    arguments = {**section(spec, "task_args"), **settings}
    packages = section(spec, "packages")
    limit = number(config.get("limit"))
    model_args = section(spec, "model_args")
    return Facts().plus(
        {
            Fact.HARNESS: SUITE,
            Fact.HARNESS_VERSION: text_of(packages.get("inspect_ai")),
            Fact.ENGINE: {"hf": "transformers"}.get(provider, provider),
            Fact.LIMIT: limit_text(None if full or limit is None else limit),
            Fact.GENERATION: json.dumps(arguments, sort_keys=True, default=str)
            if arguments
            else "the task's own",
            Fact.DTYPE: text_of(model_args.get("dtype")),
        }
    )
