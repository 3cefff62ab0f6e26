"""Samples as Parquet: one row per document, small and open to any query engine.

Columns are the fields of `evals.scores.Sample`; `metrics` and `weights` are maps from name to number.

Whatever a store refers to is read through `StoredSamples`, which hashes the bytes that it parses: no cache of file times
can then be wrong, and a hash takes little of the time that parsing takes.
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

from evals.errors import SamplesError
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
    title = f"Samples file {path}"
    return _samples(_table(path, title, subset), title)


@dataclass(frozen=True)
class StoredSamples:
    """A samples file as a store refers to it; every reader of stored samples goes through here."""

    home: Path
    """MERGEBOARD_HOME, below which the file must lie."""
    relative: str
    """The file, relative to it."""
    sha256: str
    """Hash of the file's bytes when it was stored, in hexadecimal."""
    owner: str
    """Whose samples they are, for messages: `job 01a6c3f206d159fe`."""

    def read(self) -> tuple[Sample, ...]:
        """The samples; SamplesError where the file is gone, altered or unreadable."""
        return _samples(self.table(), self._title)

    def table(self) -> pa.Table:
        """The same as a table of `SCHEMA`, which takes a fraction of the time."""
        return _table(pa.BufferReader(self._verified()), self._title)

    @property
    def path(self) -> Path:
        """The file."""
        return self.home / self.relative

    @property
    def _title(self) -> str:
        return f"The samples of {self.owner}, {self.path},"

    def check(self) -> None:
        """Raise SamplesError where the file is gone or altered; in pieces, so that its size does not matter."""
        with self._explained(), self.path.open("rb") as file:
            self._compare(hashlib.file_digest(file, "sha256").hexdigest())

    def _verified(self) -> bytes:
        with self._explained():
            data = self.path.read_bytes()
        self._compare(hashlib.sha256(data).hexdigest())
        return data

    @contextmanager
    def _explained(self) -> Iterator[None]:
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

    def _compare(self, sha256: str) -> None:
        if sha256 != self.sha256:
            raise SamplesError(
                f"{self._title} are not those that were stored (their sha256 differs); restore the file, or evaluate "
                "again with a new store."
            )


MAX_ROWS = 2_000_000
MAX_COLUMNS = 100
MAX_UNPACKED = 4_000_000_000
"""Most bytes that a file of samples may unpack to."""

# What pyarrow raises for damaged files, and Python for values of other types than a sample has.
_BROKEN = (OSError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError)


def _table(source: Path | pa.BufferReader, title: str, subset: str | None = None) -> pa.Table:
    """A file as a table of `SCHEMA`; whatever is wrong with it is a SamplesError, as one bad file must end nothing else."""
    try:
        _check_size(source, title)
        table = pq.read_table(source, filters=[("subset", "=", subset)] if subset else None)
        if set(SCHEMA.names) <= set(table.column_names):
            return table.select(SCHEMA.names).cast(SCHEMA)
    except _BROKEN as error:
        raise _unreadable(title, error) from error
    raise SamplesError(f"{title} lacks columns that samples have; evaluate again to write it.")


def _check_size(source: Path | pa.BufferReader, title: str) -> None:
    """Refuse, by the file's own footer, what a few bytes of repeated values would unpack to."""
    metadata = pq.read_metadata(source)
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    if metadata.num_rows > MAX_ROWS or size > MAX_UNPACKED or metadata.num_columns > MAX_COLUMNS:
        raise SamplesError(
            f"{title} would be {metadata.num_rows:,} rows of {metadata.num_columns:,} columns; no samples are so many, evaluate again."
        )


def _samples(table: pa.Table, title: str) -> tuple[Sample, ...]:
    try:
        return tuple(_sample(row) for row in table.to_pylist())
    except _BROKEN as error:
        raise _unreadable(title, error) from error


def _unreadable(title: str, error: BaseException) -> SamplesError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return SamplesError(f"{title} cannot be read ({first}); evaluate again to write it.")


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
    return Sample(**row)
