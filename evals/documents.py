"""The questions of a benchmark as Parquet, shared by all checkpoints that answer them.

A file belongs to one definition of a benchmark and one content of its data set, and holds all documents regardless of the
limit of the run that wrote it. A sample refers to its question by subset and `doc_id`; `doc_hash` verifies it. Samples of
older versions have no such file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from evals.engine import Frozen
from evals.errors import EvaluationError
from evals.parquet import write_rows
from evals.scores import Sample

SCHEMA = pa.schema(
    [
        ("subset", pa.dictionary(pa.int16(), pa.string())),
        ("doc_id", pa.int32()),
        ("doc_hash", pa.string()),
        ("question", pa.string()),
    ]
)
MAX_QUESTION = 20_000
"""Maximum stored length of a question, in characters."""


class Document(Frozen):
    """One question."""

    subset: str = Field(description="lm-eval task.")
    doc_id: int = Field(ge=0, description="Row of the document in the task's split, as in samples.")
    doc_hash: str = Field(
        description="First 16 hex digits of the sha256 of the document as lm-eval renders it."
    )
    question: str = Field(
        description="Text of the question, without few-shot examples, chat template and answer."
    )


def documents_path(benchmark_digest: str, dataset_digest: str) -> str:
    """Path of a benchmark's questions, relative to MERGEBOARD_HOME."""
    return f"documents/{benchmark_digest}-{dataset_digest}.parquet"


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write the questions atomically."""
    write_rows(path, (document.model_dump() for document in documents), SCHEMA)


def read_documents(path: Path, *, subset: str | None = None) -> dict[tuple[str, int], Document]:
    """The questions, or those of one subset, by subset and doc_id; empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        table = pq.read_table(path, filters=[("subset", "=", subset)] if subset else None)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(
            f"Documents file {path} cannot be read ({error}); delete it, and the next evaluation writes it again."
        ) from error
    rows = (Document(**row) for row in table.select(SCHEMA.names).to_pylist())
    return {(document.subset, document.doc_id): document for document in rows}


def question_of(sample: Sample, documents: dict[tuple[str, int], Document]) -> str | None:
    """The question that a sample answers; None if it is unknown or its document has changed."""
    document = documents.get((sample.subset, sample.doc_id))
    return document.question if document is not None and document.doc_hash == sample.doc_hash else None
