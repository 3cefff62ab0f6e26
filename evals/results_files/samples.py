"""Reads samples logged by lm-eval: JSON lines, or the JSON arrays of 2024, as a stream."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO, TypeGuard

from evals.benchmark import Formula
from evals.clusters import clusters_of, field_hashes
from evals.errors import ClaimError
from evals.outside_file import MAX_JSON_VALUES, open_file, storable, values_in
from evals.results_files.imported_run import TaskResult
from evals.results_files.rules import rename_task
from evals.scores import Sample
from evals.suite import Benchmark, Extraction, OutputKind

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<stamp>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl?$")
_BITS = "bits_per_byte"
_OF_LOGPROBS = ("perplexity", "word_perplexity", "byte_perplexity", _BITS)
"""Metrics that lm-eval logs as the log-probability of a document, with its words or bytes unless it is a continuation."""
_NO_MATCH = "[invalid]"  # output of lm-eval's regex filter if nothing matches
_BETWEEN = re.compile(r"[ \t\r\n,\[]*+")
_CHUNK = 250_000
_MAX_ENTRY = 32_000_000
"""Maximum length of an entry in characters; ten choices with a prompt of 128,000 tokens have a few millions."""
_MAX_ENTRIES = 250_000
_MAX_DOC_ID = 2**31
_MAX_PER_DOCUMENT = 64
_MAX_METRICS = 200
_MAX_KEPT = 100_000_000
"""Maximum number of characters in memory of a file's responses, choices and other texts."""
_KNOWN = frozenset(
    [
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "filter",
        "metrics",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "choices",
        "fields",
    ]
)


def task_of(path: Path) -> str | None:
    """The task in a samples file's name; None if it is not a samples file."""
    match = _NAME.match(path.name)
    return match["task"] if match else None


def stamp_of(path: Path) -> str | None:
    """The timestamp in a samples file's name."""
    match = _NAME.match(path.name)
    return match["stamp"] if match else None


def read_logged_samples(
    path: Path, benchmark: Benchmark, task: str, percent: frozenset[str] = frozenset()
) -> tuple[Sample, ...]:
    """The samples of one task of a benchmark; ClaimError names the file and the invalid entry.

    The metrics in `percent` are from 0 to 100 in the file, and become fractions.
    """
    by_doc: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    n_characters = 0
    for number, entry in enumerate(entries(path), start=1):
        doc_id = entry.get("doc_id")
        if type(doc_id) is not int or not 0 <= doc_id < _MAX_DOC_ID:
            raise ClaimError(
                f"{path}: entry {number} has no doc_id; give the samples file as lm-eval wrote it."
            )
        reduced = _without_prompts(entry)
        if not _is_repetition(reduced, by_doc[doc_id], f"{path}: document {doc_id}"):
            by_doc[doc_id].append(reduced)
            n_characters += _characters(reduced)
        if len(by_doc[doc_id]) > _MAX_PER_DOCUMENT or n_characters > _MAX_KEPT:
            raise ClaimError(
                f"{path}: entry {number} exceeds the limits of one task; give the samples of one task of one run."
            )
    if not by_doc:
        raise ClaimError(f"{path} holds no samples; give the samples file as lm-eval wrote it.")
    clusters = clusters_of(task, {doc_id: logged[0]["fields"] for doc_id, logged in by_doc.items()})
    return tuple(
        _sample(benchmark, task, doc_id, by_doc[doc_id], path, percent=percent).model_copy(
            update={"cluster": clusters.get(doc_id)}
        )
        for doc_id in sorted(by_doc)
    )


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the entries of a file: one per line, or the elements of an array."""
    number = 0
    try:
        with open_file(path) as binary, io.TextIOWrapper(binary, encoding="utf-8") as file:
            for entry in _values(file):
                number += 1
                if not isinstance(entry, dict):
                    raise ClaimError(
                        f"{path}: entry {number} is not an object; give the samples file of lm-eval."
                    )
                if number > _MAX_ENTRIES:
                    raise ClaimError(
                        f"{path} has more than {_MAX_ENTRIES:,} entries; give the file of one task."
                    )
                yield entry
    except OSError as error:
        raise ClaimError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ClaimError(f"{path} is not text; give the samples file as lm-eval wrote it.") from error
    except RecursionError as error:
        raise ClaimError(f"{path}: entry {number + 1} is nested too deeply.") from error
    except ValueError as error:
        raise ClaimError(
            f"{path}: entry {number + 1} is truncated, too long or not JSON; give the file as lm-eval wrote it."
        ) from error


def _values(file: TextIO) -> Iterator[Any]:
    """Iterate over a file's JSON values with the memory of one; ValueError for one that is invalid or too long."""
    decoder = json.JSONDecoder()
    buffer, position, ended = "", 0, False
    while True:
        between = _BETWEEN.match(buffer, position)
        position = between.end() if between else position
        n_left = len(buffer) - position
        if not ended and n_left < _CHUNK // 4:
            more = file.read(_CHUNK)
            buffer, position, ended = buffer[position:] + more, 0, not more
            continue
        if n_left == 0 or (buffer[position] == "]" and not buffer[position + 1 :].strip()):
            return
        try:
            value, end = decoder.raw_decode(buffer, position)
        except ValueError:
            if ended or n_left >= _MAX_ENTRY or (n_left > _CHUNK and values_in(buffer) > MAX_JSON_VALUES):
                raise
            more = file.read(max(_CHUNK, n_left))  # doubled, so that a long value is decoded only a few times
            buffer, position, ended = buffer[position:] + more, 0, not more
            continue
        position = end
        yield value


def _is_repetition(entry: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]], where: str) -> bool:
    """Whether an equal entry exists; ClaimError if the document has a different answer, because a run has one."""
    same_filter = [e for e in earlier if e.get("filter") == entry.get("filter") and "filter" in entry]
    if any(e != entry for e in same_filter):
        raise ClaimError(f"{where} has two different answers; give the samples of one run.")
    return bool(same_filter)


def _characters(value: Any) -> int:
    """Approximate number of characters of a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values())) + 50 * len(value)
    return sum(map(_characters, value)) + 8 * len(value) if isinstance(value, list) else 8


def _without_prompts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry without its prompts, which are most of a file."""
    reduced: dict[str, Any] = {k: v for k, v in entry.items() if k not in ("doc", "arguments")}
    reduced = storable({**reduced, "choices": _choices(entry.get("arguments"))})
    reduced["fields"] = field_hashes(entry.get("doc"))
    if not isinstance(entry.get("doc_hash"), str):
        document = json.dumps(entry.get("doc"), indent=2, ensure_ascii=False, default=str)
        reduced["doc_hash"] = hashlib.sha256(document.encode("utf-8", "replace")).hexdigest()
    if not isinstance(entry.get("prompt_hash"), str):
        reduced["prompt_hash"] = hashlib.sha256(
            _prompt(entry.get("arguments")).encode("utf-8", "replace")
        ).hexdigest()
    return reduced


def _pairs(arguments: Any) -> list[list[Any]]:
    """The requests of an entry, written by lm-eval as lists or as {'gen_args_0': {'arg_0': ...}}."""
    items = list(arguments.values()) if isinstance(arguments, dict) else arguments
    pairs = [list(p.values()) if isinstance(p, dict) else p for p in items] if isinstance(items, list) else []
    return [p for p in pairs if isinstance(p, list)]


def _choices(arguments: Any) -> list[str]:
    """The scored continuations; empty for generated answers."""
    pairs = _pairs(arguments)
    return (
        [p[1] for p in pairs] if pairs and all(len(p) == 2 and isinstance(p[1], str) for p in pairs) else []
    )


def _prompt(arguments: Any) -> str:
    pairs = _pairs(arguments)
    return str(pairs[0][0]) if pairs and pairs[0] else ""


def _sample(
    benchmark: Benchmark,
    task: str,
    doc_id: int,
    logged: list[Mapping[str, Any]],
    path: Path,
    *,
    percent: frozenset[str],
) -> Sample:
    first = logged[0]
    metrics, weights = _metrics(task, logged)
    metrics |= {m: metrics[m] / 100 for m in percent & metrics.keys()}
    if benchmark.formula is Formula.OTHER:
        # Read for the answers alone: the metric is one of all documents.
        metrics[benchmark.metrics[0]] = max(0.0, metrics.get(benchmark.metrics[0], 0.0))
    most = math.inf if benchmark.lower_is_better or benchmark.formula else 1
    missing = [m for m in benchmark.metrics if not 0 <= metrics.get(m, math.nan) <= most]
    if missing:
        raise ClaimError(
            f"{path}: document {doc_id} has no {missing[0]} from 0 to 1; give the file as lm-eval wrote it."
        )
    choices, logprobs = _scored(first)
    response = choices[_pick(benchmark, choices, logprobs)] if choices else _written(first.get("resps"))
    filtered = _written(first.get("filtered_resps"))
    return Sample(
        benchmark=benchmark.name,
        subset=task,
        doc_id=doc_id,
        doc_hash=first["doc_hash"][:16],
        prompt_hash=first["prompt_hash"][:16],
        target=str(first.get("target", "")),
        choices=tuple(choices),
        logprobs=tuple(logprobs),
        response=response,
        extracted=response if choices else (filtered if filtered not in ("", _NO_MATCH) else None),
        metrics=metrics,
        correct=fmean(metrics[m] for m in benchmark.metrics),
        weights=weights,
        sums=_log_probability(benchmark, logged),
    )


def _log_probability(benchmark: Benchmark, logged: Iterable[Mapping[str, Any]]) -> tuple[float, ...]:
    """The log-probability of a document and its words or bytes, from which the benchmark's perplexity follows; empty for other metrics."""
    name, _, kind = benchmark.metrics[0].partition(",")
    if benchmark.formula is not Formula.PERPLEXITY:
        return ()
    values = (e.get(name) for e in logged if e.get("filter", "none") in (kind, "none"))
    return next((pair for pair in map(_pair, values) if pair is not None), ())


def _pair(value: Any) -> tuple[float, float] | None:
    """A log-probability with the words or bytes that it is of (1 for a continuation); None for other values."""
    logprob, size = value if isinstance(value, list) and len(value) == 2 else (value, 1)
    if _is_real(logprob) and _is_real(size) and logprob <= 0 < size:
        return float(logprob), float(size)
    return None


def _metrics(task: str, logged: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Every metric of a document under the suite's names, and the number of items of those with several."""
    metrics: dict[str, float] = {}
    weights: dict[str, float] = {}
    for entry in logged:
        kind = entry.get("filter")
        metric_list = entry.get("metrics")
        names = metric_list if isinstance(metric_list, list) else [k for k in entry if k not in _KNOWN]
        names = [name for name in names if isinstance(name, str)][:_MAX_METRICS]
        for name in names:
            value = entry.get(name)
            label = f"{name},{kind}" if isinstance(kind, str) and kind != "none" else str(name)
            pair = _pair(value) if name in _OF_LOGPROBS else None
            if pair is not None:
                bits = -pair[0] / pair[1] / math.log(2)
                metrics[label] = bits if name == _BITS else 2 ** min(bits, 300.0)
                weights[label] = pair[1]
            elif isinstance(value, list) and value and all(map(_is_real, value)):
                metrics[label], weights[label] = fmean(map(float, value)), float(len(value))
            elif _is_real(value):
                metrics[label] = float(value)
    suite_task, rule = rename_task(TaskResult(key=task, metrics=metrics, stderrs=weights))
    return (suite_task.metrics, suite_task.stderrs) if rule is not None else (metrics, weights)


def _is_real(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number of plausible size."""
    return isinstance(value, bool | int | float) and abs(value) < 1e100


def _scored(entry: Mapping[str, Any]) -> tuple[list[str], list[float]]:
    """Continuations and their log-probabilities."""
    choices = entry["choices"]
    responses = entry.get("filtered_resps") or entry.get("resps")
    if not choices or not isinstance(responses, list) or len(responses) < len(choices):
        return [], []
    try:
        logprobs = [_logprob(response) for response in responses[: len(choices)]]
    except (TypeError, ValueError, OverflowError):
        return [], []
    return choices, logprobs


def _logprob(response: Any) -> float:
    value = _first_leaf(response)
    if value is None:
        raise TypeError("a response without a log-probability")
    return float(value)


def _pick(benchmark: Benchmark, choices: list[str], logprobs: list[float]) -> int:
    """Index of the choice that the benchmark's metric picks; the first of equal ones."""
    per_character = benchmark.extraction is Extraction.CHOICE_PER_CHARACTER
    weighed = [
        lp / max(1, len(c)) if per_character and benchmark.output is OutputKind.MULTIPLE_CHOICE else lp
        for c, lp in zip(choices, logprobs, strict=True)
    ]
    return weighed.index(max(weighed))


def _first_leaf(value: Any) -> Any:
    """The first innermost element; lm-eval nests responses by request, repeat and (log-probability, greedy)."""
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def _written(responses: Any) -> str:
    first = _first_leaf(responses)
    return "" if first is None else str(first)
