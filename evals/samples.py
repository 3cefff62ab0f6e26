"""Samples as Parquet: one row per document.

Columns are the fields of `evals.scores.Sample`; `metrics` and `weights` are maps from name to number. Files of earlier versions
lack `items`, `cluster` and `sums`.

Samples that a store refers to are read through `StoredSamples`, which hashes the bytes that it parses. A cache by file time
could be stale, and hashing takes a small part of the parsing time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.errors import SamplesError, first_line
from evals.parquet import write_rows
from evals.scores import Sample

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.map_(pa.string(), pa.float64())
_ITEMS = pa.list_(pa.struct([("name", pa.string()), ("metric", pa.string()), ("value", pa.float64())]))

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
        ("items", _ITEMS),
        ("cluster", pa.string()),
        ("sums", pa.list_(pa.float64())),
    ]
)


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write the samples atomically."""
    write_rows(path, (_row(sample) for sample in samples), SCHEMA)


def read_samples(path: Path, *, subset: str | None = None) -> tuple[Sample, ...]:
    """The samples of a file, or of one of its subsets."""
    title = f"Samples file {path}"
    return _samples(_table(path, title, subset), title)


@dataclass(frozen=True)
class StoredSamples:
    """A samples file that a store refers to, verified by its hash."""

    home: Path
    """MERGEBOARD_HOME, which must contain the file."""
    relative: str
    """Path of the file, relative to `home`."""
    sha256: str
    """Hash of the stored file, in hexadecimal."""
    owner: str
    """Owner of the samples, for messages: `job 01a6c3f206d159fe`."""

    def read(self) -> tuple[Sample, ...]:
        """The samples; SamplesError if the file is missing, altered or unreadable."""
        return _samples(self.table(), self._title)

    def table(self) -> pa.Table:
        """The samples as a table of `SCHEMA`, in a fraction of the time of `read`."""
        return _table(pa.BufferReader(self._read_verified()), self._title)

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return self.home / self.relative

    @property
    def _title(self) -> str:
        return f"The samples of {self.owner}, {self.path},"

    def check(self) -> None:
        """Raise SamplesError if the file is missing or altered; reads it in chunks."""
        with self._os_errors_explained(), self.path.open("rb") as file:
            self._require_sha256(hashlib.file_digest(file, "sha256").hexdigest())

    def _read_verified(self) -> bytes:
        with self._os_errors_explained():
            data = self.path.read_bytes()
        self._require_sha256(hashlib.sha256(data).hexdigest())
        return data

    @contextmanager
    def _os_errors_explained(self) -> Iterator[None]:
        if not self.path.resolve().is_relative_to(self.home.resolve()):
            raise SamplesError(
                f"{self._title} lie outside of MERGEBOARD_HOME, where nothing is read; evaluate again with a new store."
            )
        try:
            yield
        except OSError as error:
            raise SamplesError(
                f"{self._title} are gone ({error.strerror}); restore MERGEBOARD_HOME, or evaluate again with a new store."
            ) from error

    def _require_sha256(self, sha256: str) -> None:
        if sha256 != self.sha256:
            raise SamplesError(
                f"{self._title} are not those that were stored (their sha256 differs); restore the file, or evaluate "
                "again with a new store."
            )


MAX_ROWS = 2_000_000
MAX_COLUMNS = 100
MAX_UNPACKED = 4_000_000_000
"""Maximum unpacked size of a samples file, in bytes."""

# Exceptions of pyarrow for damaged files, and of Python for values of the wrong type.
_BROKEN = (OSError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError)


def _table(source: Path | pa.BufferReader, title: str, subset: str | None = None) -> pa.Table:
    """Read a file as a table of `SCHEMA`; every defect is a SamplesError, so that one bad file does not stop the others."""
    try:
        _check_size(source, title)
        table = pq.read_table(source, filters=[("subset", "=", subset)] if subset else None)
        if "items" not in table.column_names:
            table = table.append_column("items", pa.nulls(len(table), _ITEMS))
        if "cluster" not in table.column_names:  # files of earlier versions
            table = table.append_column("cluster", pa.nulls(len(table), pa.string()))
        if "sums" not in table.column_names:
            table = table.append_column("sums", pa.nulls(len(table), pa.list_(pa.float64())))
        if set(SCHEMA.names) <= set(table.column_names):
            return table.select(SCHEMA.names).cast(SCHEMA)
    except _BROKEN as error:
        raise _unreadable(title, error) from error
    raise SamplesError(f"{title} lacks columns that samples have; evaluate again to write it.")


def _check_size(source: Path | pa.BufferReader, title: str) -> None:
    """Raise SamplesError if the file's footer announces too many rows, columns or unpacked bytes."""
    metadata = pq.read_metadata(source)
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    if metadata.num_rows > MAX_ROWS or size > MAX_UNPACKED or metadata.num_columns > MAX_COLUMNS:
        raise SamplesError(
            f"{title} has {metadata.num_rows:,} rows of {metadata.num_columns:,} columns, more than samples can have; evaluate again."
        )


def _samples(table: pa.Table, title: str) -> tuple[Sample, ...]:
    try:
        return tuple(_sample(row) for row in table.to_pylist())
    except _BROKEN as error:
        raise _unreadable(title, error) from error


def _unreadable(title: str, error: BaseException) -> SamplesError:
    reason = first_line(error)
    return SamplesError(f"{title} cannot be read ({reason}); evaluate again to write it.")


def _row(sample: Sample) -> dict[str, Any]:
    row = sample.model_dump()
    row["metrics"] = sorted(sample.metrics.items())
    row["weights"] = sorted(sample.weights.items())
    return row


def _sample(row: dict[str, Any]) -> Sample:
    row["metrics"] = dict(row["metrics"])
    row["weights"] = dict(row["weights"])
    row["choices"] = tuple(row["choices"])
    row["logprobs"] = tuple(row["logprobs"])
    row["items"] = tuple(row["items"] or ())
    row["sums"] = tuple(row["sums"] or ())
    return Sample(**row)
