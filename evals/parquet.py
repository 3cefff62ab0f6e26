"""Writes Parquet files atomically."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.atomic_file import atomic_file


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write the rows, compressed, to a temporary file and rename it; lone surrogates become question marks."""
    table = pa.Table.from_pylist(
        [{key: _replace_surrogates(value) for key, value in row.items()} for row in rows], schema=schema
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, sync=True) as draft:
        pq.write_table(table, draft, compression="zstd", compression_level=9)


def _replace_surrogates(value: Any) -> Any:
    """The value with lone surrogates, which a tokenizer can produce, replaced by question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return tuple(_replace_surrogates(item) for item in value) if isinstance(value, tuple) else value
