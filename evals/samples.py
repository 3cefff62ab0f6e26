"""Samples as Parquet: one row per document, small and open to any query engine.

Columns are the fields of `evals.scores.Sample`; `metrics` and `weights` are maps from name to number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.errors import EvaluationError
from evals.parquet import write_rows
from evals.scores import Sample

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.map_(pa.string(), pa.float64())

SCHEMA = pa.schema(
    [
        ("benchmark", pa.dictionary(pa.int16(), pa.string())),
        ("subset", pa.dictionary(pa.int16(), pa.string())),
        ("doc_id", pa.int32()),
        ("doc_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("target", pa.string()),
        ("choices", _TEXTS),
        ("logprobs", pa.list_(pa.float64())),
        ("response", pa.string()),
        ("extracted", pa.string()),
        ("n_tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("metrics", _NUMBERS),
        ("correct", pa.float64()),
        ("weights", _NUMBERS),
    ]
)


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Writes the samples; the file appears whole or not at all."""
    write_rows(path, (_row(sample) for sample in samples), SCHEMA)


def read_samples(path: Path, *, subset: str | None = None) -> tuple[Sample, ...]:
    """The samples of a file, or of one of its subsets."""
    try:
        table = pq.read_table(path, filters=[("subset", "=", subset)] if subset else None)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(
            f"Samples file {path} cannot be read ({error}); evaluate again to write it."
        ) from error
    if not set(SCHEMA.names) <= set(table.column_names):
        raise EvaluationError(
            f"Samples file {path} lacks columns that samples have; evaluate again to write it."
        )
    return tuple(_samples(table.select(SCHEMA.names)))


def _row(sample: Sample) -> dict[str, Any]:
    row = sample.model_dump()
    row["metrics"] = sorted(sample.metrics.items())
    row["weights"] = sorted(sample.weights.items())
    return row


def _samples(table: pa.Table) -> Iterator[Sample]:
    for row in table.to_pylist():
        row["metrics"] = dict(row["metrics"])
        row["weights"] = dict(row["weights"])
        row["choices"] = tuple(row["choices"])
        row["logprobs"] = tuple(row["logprobs"])
        yield Sample(**row)
