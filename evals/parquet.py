"""Rows to a Parquet file that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.atomic_file import atomic_file


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Writes the rows, compressed, under a name of its own first; text that UTF-8 cannot hold loses those characters."""
    table = pa.Table.from_pylist(
        [{key: _printable(value) for key, value in row.items()} for row in rows], schema=schema
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, sync=True) as draft:
        pq.write_table(table, draft, compression="zstd", compression_level=9)


def _printable(value: Any) -> Any:
    """Text that UTF-8 can hold: a lone surrogate, which a tokenizer can leave, becomes a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return tuple(_printable(item) for item in value) if isinstance(value, tuple) else value
