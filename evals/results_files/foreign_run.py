"""Builds an imported run from the tasks and answers of other tools than lm-eval."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evals.errors import ClaimError
from evals.results_files.imported_run import ImportedRun, ResultFile
from evals.results_files.unlisted import unlisted_benchmarks
from evals.scores import Sample

_MOST_TEXT = 20_000
_ID_SPACE = 2**31


def assemble_foreign(
    file: ResultFile,
    suite: str,
    answers: Mapping[str, Sequence[Sample]],
    problems: Sequence[str] = (),
) -> ImportedRun:
    """The run of a file with the benchmarks of its tasks, under a suite that is named by the tool."""
    benchmarks, refused = unlisted_benchmarks(file, (), suite)
    taken = {s.subset for b in benchmarks for s in b.measurement.scores}
    return ImportedRun(
        file=file,
        benchmarks=benchmarks,
        suites=(),
        ignored=tuple(t.key for t in file.tasks if t.key not in taken),
        problems=(*problems, *refused),
        answers={
            task: tuple(sorted(samples, key=lambda s: s.doc_id))
            for task, samples in answers.items()
            if task in taken
        },
    )


def answer(
    task: str,
    doc_id: int,
    *,
    document: Any,
    prompt: str,
    metrics: Mapping[str, float],
    main: str,
    target: str = "",
    response: str = "",
    extracted: str | None = None,
    choices: Sequence[str] = (),
    logprobs: Sequence[float] = (),
    truncated: bool = False,
) -> Sample:
    """One document's answer; `document` and `prompt` are hashed, so that two runs are compared on the same questions."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
    return Sample(
        benchmark=task,
        subset=task,
        doc_id=doc_id,
        doc_hash=_sha(text),
        prompt_hash=_sha(prompt),
        target=target[:_MOST_TEXT],
        choices=tuple(choices),
        logprobs=tuple(logprobs),
        response=response[:_MOST_TEXT],
        extracted=extracted,
        truncated=truncated,
        metrics=dict(metrics),
        correct=min(1.0, max(0.0, metrics.get(main, 0.0))),
    )


def document_ids(ids: Sequence[Any], where: str) -> dict[str, int]:
    """A number per document id: the id itself if all are whole numbers, else one from its hash, equal in every file.

    Raises ClaimError if two ids get one number.
    """
    texts = list(dict.fromkeys(str(i) for i in ids))
    if all(t.isascii() and t.isdigit() and int(t) < _ID_SPACE for t in texts):
        numbers = {t: int(t) for t in texts}
    else:
        numbers = {t: int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) % _ID_SPACE for t in texts}
    if len(set(numbers.values())) < len(texts):
        raise ClaimError(f"{where}: two questions have ids that cannot be told apart.")
    return numbers


def repeated_mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the repetitions of a document."""
    names = dict.fromkeys(name for value in values for name in value)
    return {name: fmean(v[name] for v in values if name in v) for name in names}


def number(value: Any) -> float | None:
    """A finite number, or None; true and false are 1 and 0."""
    if isinstance(value, bool | int | float) and abs(value) < 1e100 and math.isfinite(value):
        return float(value)
    return None


def document_count(value: Any) -> int | None:
    """A plausible number of documents: a whole number from 1 to below ten million; None for anything else."""
    return value if type(value) is int and 0 < value < 10_000_000 else None


def is_file(path: Path) -> bool:
    """Whether a file exists under a name that another file gives, which no file may be able to have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def text_of(value: Any) -> str | None:
    """A text that is not empty, or a number as text; None for anything else."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping inside a mapping; empty if there is none."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def moment(value: Any) -> datetime.datetime | None:
    """A time from ISO 8601 or seconds since 1970, in UTC; None for anything else."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
            parsed = datetime.datetime.fromisoformat(value.strip())
            return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=datetime.UTC)
        seconds = float(value)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC) if 1e9 < seconds < 1e11 else None
    except (TypeError, ValueError, OverflowError):
        return None


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
