"""Samples that lm-eval logged: JSON lines, or the JSON arrays of 2024, streamed so that size does not matter."""

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

from evals.errors import ClaimError
from evals.outside_file import MAX_JSON_VALUES, open_file, storable, values_in
from evals.results_files.imported_run import TaskResult
from evals.results_files.rules import renamed
from evals.scores import Sample
from evals.suite import Benchmark, Extraction, OutputKind

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<stamp>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl?$")
_NO_MATCH = "[invalid]"  # what lm-eval's regex filter leaves where nothing matched
_BETWEEN = re.compile(r"[ \t\r\n,\[]*+")
_CHUNK = 250_000
_MAX_ENTRY = 32_000_000
"""Longest entry in characters: ten choices with a prompt of 128,000 tokens have some millions."""
_MAX_ENTRIES = 250_000
_MAX_DOC_ID = 2**31
_MAX_PER_DOCUMENT = 64
_MAX_METRICS = 200
_MAX_KEPT = 100_000_000
"""Most characters of responses, choices and other texts that are kept of a file."""
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
    ]
)


def task_of(path: Path) -> str | None:
    """The task that a samples file is of, by its name; None where it is no samples file."""
    match = _NAME.match(path.name)
    return match["task"] if match else None


def stamp_of(path: Path) -> str | None:
    """The time in a samples file's name."""
    match = _NAME.match(path.name)
    return match["stamp"] if match else None


def read_logged_samples(path: Path, benchmark: Benchmark, task: str) -> tuple[Sample, ...]:
    """The samples of one task of a benchmark; ClaimError names the file and entry that is not as it should be."""
    by_doc: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    kept = 0
    for number, entry in enumerate(entries(path), start=1):
        doc_id = entry.get("doc_id")
        if type(doc_id) is not int or not 0 <= doc_id < _MAX_DOC_ID:
            raise ClaimError(
                f"{path}: entry {number} has no doc_id; give the samples file as lm-eval wrote it."
            )
        slim = _slim(entry)
        if not _repeats(slim, by_doc[doc_id], f"{path}: document {doc_id}"):
            by_doc[doc_id].append(slim)
            kept += _characters(slim)
        if len(by_doc[doc_id]) > _MAX_PER_DOCUMENT or kept > _MAX_KEPT:
            raise ClaimError(
                f"{path}: entry {number} is one too many; give the samples of one task of one run."
            )
    if not by_doc:
        raise ClaimError(f"{path} holds no samples; give the samples file as lm-eval wrote it.")
    return tuple(_sample(benchmark, task, doc_id, by_doc[doc_id], path) for doc_id in sorted(by_doc))


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a file, one at a time: one per line, or one after another in an array."""
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
            f"{path}: entry {number + 1} is cut short, too long or not JSON; give the file as lm-eval wrote it."
        ) from error


def _values(file: TextIO) -> Iterator[Any]:
    """The JSON values of a file in memory that one of them needs; ValueError for one that is no JSON or too long."""
    decoder = json.JSONDecoder()
    buffer, at, ended = "", 0, False
    while True:
        between = _BETWEEN.match(buffer, at)
        at = between.end() if between else at
        left = len(buffer) - at
        if not ended and left < _CHUNK // 4:
            more = file.read(_CHUNK)
            buffer, at, ended = buffer[at:] + more, 0, not more
            continue
        if left == 0 or (buffer[at] == "]" and not buffer[at + 1 :].strip()):
            return
        try:
            value, end = decoder.raw_decode(buffer, at)
        except ValueError:
            if ended or left >= _MAX_ENTRY or (left > _CHUNK and values_in(buffer) > MAX_JSON_VALUES):
                raise
            more = file.read(max(_CHUNK, left))  # doubled, so that a long value is decoded a few times only
            buffer, at, ended = buffer[at:] + more, 0, not more
            continue
        at = end
        yield value


def _repeats(entry: Mapping[str, Any], before: Iterable[Mapping[str, Any]], where: str) -> bool:
    """Whether an entry is there already, word for word; a document with two answers is no sample of one run."""
    same = [e for e in before if e.get("filter") == entry.get("filter") and "filter" in entry]
    if any(e != entry for e in same):
        raise ClaimError(f"{where} is answered twice in different ways; give the samples of one run.")
    return bool(same)


def _characters(value: Any) -> int:
    """About the characters that a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values())) + 50 * len(value)
    return sum(map(_characters, value)) + 8 * len(value) if isinstance(value, list) else 8


def _slim(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry without the texts of its prompts, which are most of a file."""
    kept: dict[str, Any] = {k: v for k, v in entry.items() if k not in ("doc", "arguments")}
    kept = storable({**kept, "choices": _choices(entry.get("arguments"))})
    if not isinstance(entry.get("doc_hash"), str):
        document = json.dumps(entry.get("doc"), indent=2, ensure_ascii=False, default=str)
        kept["doc_hash"] = hashlib.sha256(document.encode("utf-8", "replace")).hexdigest()
    if not isinstance(entry.get("prompt_hash"), str):
        kept["prompt_hash"] = hashlib.sha256(
            _prompt(entry.get("arguments")).encode("utf-8", "replace")
        ).hexdigest()
    return kept


def _pairs(arguments: Any) -> list[list[Any]]:
    """The requests of an entry, which lm-eval writes as lists or as {'gen_args_0': {'arg_0': ...}}."""
    found = list(arguments.values()) if isinstance(arguments, dict) else arguments
    pairs = [list(p.values()) if isinstance(p, dict) else p for p in found] if isinstance(found, list) else []
    return [p for p in pairs if isinstance(p, list)]


def _choices(arguments: Any) -> list[str]:
    """The continuations that were scored; empty where text was written."""
    pairs = _pairs(arguments)
    return (
        [p[1] for p in pairs] if pairs and all(len(p) == 2 and isinstance(p[1], str) for p in pairs) else []
    )


def _prompt(arguments: Any) -> str:
    pairs = _pairs(arguments)
    return str(pairs[0][0]) if pairs and pairs[0] else ""


def _sample(
    benchmark: Benchmark, task: str, doc_id: int, logged: list[Mapping[str, Any]], path: Path
) -> Sample:
    first = logged[0]
    metrics, weights = _metrics(task, logged)
    missing = [m for m in benchmark.metrics if not 0 <= metrics.get(m, math.nan) <= 1]
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
    )


def _metrics(task: str, logged: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Every metric of a document under the suite's names, and the number of items behind those that have several."""
    metrics: dict[str, float] = {}
    weights: dict[str, float] = {}
    for entry in logged:
        kind = entry.get("filter")
        named = entry.get("metrics")
        names = named if isinstance(named, list) else [k for k in entry if k not in _KNOWN]
        names = [name for name in names if isinstance(name, str)][:_MAX_METRICS]
        for name in names:
            value = entry.get(name)
            label = f"{name},{kind}" if isinstance(kind, str) and kind != "none" else str(name)
            if isinstance(value, list) and value and all(map(_is_real, value)):
                metrics[label], weights[label] = fmean(map(float, value)), float(len(value))
            elif _is_real(value):
                metrics[label] = float(value)
    own, rule = renamed(TaskResult(key=task, metrics=metrics, stderrs=weights))
    return (own.metrics, own.stderrs) if rule is not None else (metrics, weights)


def _is_real(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that a metric can have: no NaN, no infinity, nothing absurd."""
    return isinstance(value, bool | int | float) and abs(value) < 1e100


def _scored(entry: Mapping[str, Any]) -> tuple[list[str], list[float]]:
    """Continuations and their log-probabilities."""
    choices = entry["choices"]
    found = entry.get("filtered_resps") or entry.get("resps")
    if not choices or not isinstance(found, list) or len(found) < len(choices):
        return [], []
    try:
        logprobs = [_logprob(response) for response in found[: len(choices)]]
    except (TypeError, ValueError, OverflowError):
        return [], []
    return choices, logprobs


def _logprob(response: Any) -> float:
    value = _first(response)
    if value is None:
        raise TypeError("a response without a log-probability")
    return float(value)


def _pick(benchmark: Benchmark, choices: list[str], logprobs: list[float]) -> int:
    """The choice that the benchmark's metric picks; the first wins where several are equal."""
    per_character = benchmark.extraction is Extraction.CHOICE_PER_CHARACTER
    weighed = [
        lp / max(1, len(c)) if per_character and benchmark.output is OutputKind.MULTIPLE_CHOICE else lp
        for c, lp in zip(choices, logprobs, strict=True)
    ]
    return weighed.index(max(weighed))


def _first(value: Any) -> Any:
    """The first element, however deep: lm-eval nests responses by request, repeat and (log-probability, greedy)."""
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def _written(responses: Any) -> str:
    first = _first(responses)
    return "" if first is None else str(first)
