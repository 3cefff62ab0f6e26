"""Reads results of lighteval: a results file and the Parquet files with the details of its tasks."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.claims.facts import Fact, Facts, limit_text
from evals.errors import ClaimError, first_line
from evals.results_files.foreign_run import (
    answer,
    assemble_foreign,
    document_count,
    is_file,
    items,
    moment,
    number,
    section,
    text_of,
)
from evals.results_files.imported_run import FileFormat, ImportedRun, ResultFile, TaskResult
from evals.scores import Sample
from evals.suite import OutputKind

SUITE = "lighteval"
# 'gsm8k|5', 'lighteval|gsm8k|5' or 'lighteval|gsm8k|5|0': a suite may come first, a flag for truncation last.
_KEY = re.compile(r"(?:(?P<suite>[^|]+)\|)?(?P<task>[^|]+)\|(?P<shots>\d{1,4})(?:\|[01])?$")
_BOARD = re.compile(r"harness\|[^|]+\|\d{1,4}$")
_STAMP = re.compile(r"results_(?P<stamp>[\dT.:_-]+)\.json$")
_MAX_ROWS = 250_000
_MAX_UNPACKED = 4_000_000_000
_LEVELS_UP = 6


def is_lighteval(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a results file of lighteval; the first leaderboard's files are not taken for one."""
    results = data.get("results")
    if "config_general" not in data or not isinstance(results, dict):
        return False
    keys = [key for key in results if isinstance(key, str) and _KEY.match(key)]
    return bool(keys) and not any(_BOARD.match(key) for key in keys)


def read_lighteval(data: Mapping[str, Any], path: Path) -> ImportedRun:
    """The run in a results file with the details that are beside it. Raises ClaimError if it has no tasks."""
    general, versions = section(data, "config_general"), section(data, "versions")
    configs = section(data, "config_tasks")
    model_config = section(general, "model_config")
    answers: dict[str, list[Sample]] = {}
    problems: list[str] = []
    tasks = []
    for key, values in section(data, "results").items():
        match = _KEY.match(key)
        if match is None or not isinstance(values, dict) or match["task"].endswith(":_average"):
            continue
        config = _config(configs, key)
        details = _details_file(path, key)
        name = match["task"]
        if details is not None:
            try:
                answers[name] = _read_details(details, name, _metric_names(config, values))
            except ClaimError as error:
                problems.append(f"The samples of {name} are not used: {error}")
        tasks.append(_task(match, values, config, versions.get(key), len(answers.get(name, ()))))
    if not tasks:
        raise ClaimError(f"{path} has no results of tasks; give a results_*.json of lighteval.")
    stamp = _STAMP.search(path.name)
    file = ResultFile(
        source=str(path),
        format=FileFormat.LIGHTEVAL,
        checkpoint=text_of(general.get("model_name")) or text_of(model_config.get("model_name")) or "unknown",
        revision=text_of(general.get("model_sha")) or text_of(model_config.get("revision")),
        measured_at=moment(_iso(stamp["stamp"])) if stamp else None,
        facts=_facts(general, model_config),
        tasks=tuple(tasks),
        limit=None,
    )
    return assemble_foreign(file, SUITE, answers, problems)


def _task(
    match: re.Match[str], values: Mapping[str, Any], config: Mapping[str, Any], version: Any, n: int
) -> TaskResult:
    metrics: dict[str, float] = {}
    stderrs: dict[str, float] = {}
    for name, value in values.items():
        parsed = number(value)
        if parsed is not None:
            is_stderr = name.endswith("_stderr")
            (stderrs if is_stderr else metrics)[name.removesuffix("_stderr")] = parsed
    entries = [m for m in items(config.get("metrics")) or items(config.get("metric")) if isinstance(m, dict)]
    categories = " ".join(str(m.get("category")) for m in entries)
    effective, original = (
        document_count(config.get("effective_num_docs")),
        document_count(config.get("original_num_docs")),
    )
    documents = n or effective
    n_full = max(original, documents) if documents and original else documents
    repo, subset = text_of(config.get("hf_repo")), text_of(config.get("hf_subset"))
    return TaskResult(
        key=match["task"],
        metrics=metrics,
        stderrs=stderrs,
        version=text_of(version) or text_of(config.get("version")),
        shots=int(match["shots"]),
        n=documents,
        n_full=n_full,
        preferred=tuple(name for name in _metric_names(config, values) if name in metrics),
        lower_is_better=tuple(
            str(m.get("metric_name")) for m in entries if m.get("higher_is_better") is False
        ),
        output=OutputKind.MULTIPLE_CHOICE
        if "LOGPROB" in categories.upper() or "MULTICHOICE" in categories.upper()
        else OutputKind.GENERATION,
        dataset=f"{repo} ({subset})" if repo and subset else repo,
    )


def _config(configs: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A task's configuration; older versions leave the shots out of its key."""
    parts = key.split("|")
    candidates = (key, "|".join(parts[:-1]), "|".join(parts[:2]), parts[0])
    return next((section(configs, c) for c in candidates if section(configs, c)), {})


def _metric_names(config: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Metrics in the order of the task's definition, then those of its results."""
    entries = items(config.get("metrics")) or items(config.get("metric"))
    named: list[str] = []
    for entry in (e for e in entries if isinstance(e, dict)):
        name = entry.get("metric_name")
        named += [str(n) for n in name] if isinstance(name, list) else [str(name)]
    return list(dict.fromkeys([*named, *(v for v in values if not v.endswith("_stderr"))]))


def _facts(general: Mapping[str, Any], model_config: Mapping[str, Any]) -> Facts:
    limit = number(general.get("max_samples"))
    sha = text_of(general.get("lighteval_sha"))
    generation = {
        k: v
        for k, v in section(model_config, "generation_parameters").items()
        if v is not None and k != "num_blocks"
    }
    template = model_config.get("override_chat_template", general.get("use_chat_template"))
    return Facts().plus(
        {
            Fact.HARNESS: SUITE,
            Fact.HARNESS_VERSION: None if sha in (None, "?") else sha,
            Fact.LIMIT: limit_text(limit) if "max_samples" in general else None,
            Fact.DTYPE: text_of(model_config.get("dtype") or general.get("model_dtype")),
            Fact.GENERATION: json.dumps(generation, sort_keys=True, default=str) if model_config else None,
            Fact.TEMPLATE: {True: "on", False: "off"}.get(template) if isinstance(template, bool) else None,
            Fact.SYSTEM_PROMPT: "none"
            if "system_prompt" in model_config and not model_config["system_prompt"]
            else None,
        }
    )


def _details_file(path: Path, key: str) -> Path | None:
    """The details of a task: beside the results, or below a folder 'details' of a folder above, with the same time."""
    stamp = _STAMP.search(path.name)
    if stamp is None:
        return None
    name = f"details_{key}_{stamp['stamp']}.parquet"
    for folder in _details_folders(path, stamp["stamp"]):
        if is_file(folder / name):
            return folder / name
    return None


def _details_folders(path: Path, stamp: str) -> Iterator[Path]:
    yield from (path.parent, path.parent / stamp)
    for parent in list(path.parents)[:_LEVELS_UP]:
        details = parent / "details"
        if details.is_dir():
            below = path.parent.relative_to(parent).parts[1:]
            yield details.joinpath(*below, stamp)
            yield details.joinpath(*below)


def _read_details(path: Path, task: str, names: Sequence[str]) -> list[Sample]:
    """The answers in a details file: `doc`, `model_response` and `metric`, or the columns of versions before 0.9."""
    try:
        metadata = pq.read_metadata(path)
        size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
        if metadata.num_rows > _MAX_ROWS or size > _MAX_UNPACKED:
            raise ClaimError(f"{path} has {metadata.num_rows:,} rows, more than one task can have.")
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = first_line(error)[:120]
        raise ClaimError(f"{path} is not a Parquet file of lighteval ({reason}).") from error
    samples = [_sample(task, number_, _row(row), names) for number_, row in enumerate(rows)]
    return [s for s in samples if s is not None]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its structures as mappings; lighteval writes them as text where Arrow cannot hold them."""
    return {key: _parsed(value) for key, value in row.items()}


def _parsed(value: Any) -> Any:
    if not isinstance(value, str) or value[:1] not in "{[" or len(value) > 1_000_000:
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _sample(task: str, doc_id: int, row: Mapping[str, Any], names: Sequence[str]) -> Sample | None:
    values = section(row, "metric") or section(row, "metrics")
    metrics = {name: v for name in names if (v := number(values.get(name))) is not None}
    if not metrics:
        return None
    doc, response = section(row, "doc") or row, section(row, "model_response") or row
    query = text_of(doc.get("query")) or text_of(doc.get("full_prompt")) or text_of(doc.get("example")) or ""
    choices = [str(c) for c in items(doc.get("choices"))]
    gold = doc.get("gold_index", doc.get("gold"))
    texts = [str(t) for t in items(response.get("text")) or items(response.get("predictions"))]
    cleaned = [str(t) for t in items(response.get("text_post_processed"))]
    logprobs = [v for v in map(number, items(response.get("logprobs"))) if v is not None]
    scored = bool(logprobs) and len(logprobs) == len(choices)
    picked = choices[logprobs.index(max(logprobs))] if scored else None
    prompt = text_of(row.get("full_prompt")) or query
    return answer(
        task,
        doc_id,
        document=[query, choices, gold],
        prompt=prompt,
        metrics=metrics,
        main=next(iter(metrics)),
        target=_gold(choices, gold),
        response=texts[0] if texts else picked or "",
        extracted=cleaned[0] if cleaned else picked,
        choices=choices if scored else (),
        logprobs=logprobs if scored else (),
    )


def _gold(choices: Sequence[str], gold: Any) -> str:
    """The correct choices, or the gold answer as it is written."""
    indices = [g for g in (gold if isinstance(gold, list) else [gold]) if type(g) is int]
    named = [choices[i] for i in indices if 0 <= i < len(choices)]
    return ", ".join(named) if named else "" if gold is None else str(gold)


def _iso(stamp: str) -> str:
    """lighteval's stamp as ISO 8601: the colons of the time are hyphens in file names."""
    day, _, time = stamp.partition("T")
    return f"{day}T{time.replace('-', ':')}"
