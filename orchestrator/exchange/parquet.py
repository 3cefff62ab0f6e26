"""Export scores and samples as Parquet, for notebooks and other query engines.

| file               | a row is                                                                          |
| ------------------ | --------------------------------------------------------------------------------- |
| candidates.parquet | an evaluation of a candidate of a run; `job_digest` is the key of the other files |
| benchmarks.parquet | an evaluation: one benchmark of one checkpoint or layer path                      |
| scores.parquet     | one metric of one subset of an evaluation                                         |
| samples.parquet    | one document's answer in an evaluation, as `evals.samples` writes it              |

Each file is written atomically. A samples file that is missing or altered stops the export.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.samples import SCHEMA as SAMPLES
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import StoreError
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.leaderboard import EvaluationRecord, LeaderboardQuery
from orchestrator.store.records import CandidateRecord, Protocol, RunRecord
from recipes.atomic_file import atomic_file
from recipes.layer_path import LayerPath
from recipes.layer_visit import Layers, is_whole_path, source_layers_of

# Evaluations per read, rows per write.
_BATCH = 1_000
_ROWS = 50_000
_LAYERS = pa.list_(pa.int32())

_CANDIDATES = pa.schema(
    [
        ("run_id", pa.string()),
        ("run_name", pa.string()),
        ("run_created_at", pa.timestamp("us", tz="UTC")),
        ("position", pa.int32()),
        ("candidate", pa.string()),
        ("is_base", pa.bool_()),
        ("layers", pa.int32()),
        ("parameters", pa.int64()),
        ("recipe", pa.string()),
        ("job_digest", pa.string()),
    ]
)
_IDENTITY = [
    ("job_digest", pa.string()),
    ("suite", pa.string()),
    ("benchmark", pa.string()),
    ("weights_digest", pa.string()),
    ("layer_path", _LAYERS),
    ("visits", pa.string()),
    ("protocol_digest", pa.string()),
]
_BENCHMARKS = pa.schema(
    [
        *_IDENTITY,
        ("engine", pa.string()),
        ("engine_version", pa.string()),
        ("dtype", pa.string()),
        ("device", pa.string()),
        ("execution", pa.string()),
        ("attention_backend", pa.string()),
        ("batch_invariant", pa.bool_()),
        ("chat_template", pa.string()),
        ("limit", pa.int64()),
        ("title", pa.string()),
        ("metric", pa.string()),
        ("raw", pa.float64()),
        ("normalized", pa.float64()),
        ("n", pa.int64()),
        ("partial", pa.bool_()),
        ("comparable_to_board", pa.bool_()),
        ("remark", pa.string()),
        ("alarms", pa.list_(pa.string())),
        ("duration_s", pa.float64()),
        ("host", pa.string()),
        ("ended_at", pa.timestamp("us", tz="UTC")),
    ]
)
_SCORES = pa.schema(
    [
        *_IDENTITY,
        ("subset", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("n", pa.int64()),
        ("n_full", pa.int64()),
        ("lower_bound", pa.float64()),
        ("task_version", pa.string()),
        ("alarms", pa.list_(pa.string())),
    ]
)
_SAMPLES = pa.schema([("job_digest", pa.string()), *SAMPLES])


def export_parquet(settings: Settings, out: Path, *, run_id: str | None = None) -> tuple[Path, ...]:
    """Write the store, or one of its runs, into a folder. Returns the files in the table's order."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        runs = _runs(store) if run_id is None else [store.run(run_id)]
        digests = store.evaluated(run_id)
        _require_samples(store, settings.home, digests)
        try:
            out.mkdir(parents=True, exist_ok=True)
            return (
                _write(out / "candidates.parquet", _CANDIDATES, _candidate_tables(store, runs)),
                _write(out / "benchmarks.parquet", _BENCHMARKS, _benchmark_tables(store, digests)),
                _write(out / "scores.parquet", _SCORES, _score_tables(store, digests)),
                _write(out / "samples.parquet", _SAMPLES, _sample_tables(store, settings.home, digests)),
            )
        except OSError as error:
            raise StoreError(
                f"{out} cannot be written ({error.strerror or error}); give another folder with --out."
            ) from error


def _write(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> Path:
    """Write tables into one file, atomically."""
    pending: list[pa.Table] = []
    with atomic_file(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        for table in tables:
            pending.append(table)
            if sum(map(len, pending)) >= _ROWS:
                writer.write_table(_joined(pending))
                pending.clear()
        if pending:
            writer.write_table(_joined(pending))
    return path


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries()


def _runs(store: Store) -> list[RunRecord]:
    runs: list[RunRecord] = []
    while page := store.runs(limit=_BATCH, offset=len(runs)):
        runs += page
    return runs


def _batches(digests: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(digests)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch


def _candidate_tables(store: Store, runs: Sequence[RunRecord]) -> Iterator[pa.Table]:
    for run in runs:
        query = LeaderboardQuery(run_id=run.id, limit=_BATCH)
        for offset in itertools.count(step=_BATCH):
            page = store.leaderboard(query.model_copy(update={"offset": offset}))
            rows = [
                _candidate_row(run, row.candidate, evaluation.job_digest)
                for row in page.rows
                for evaluation in row.evaluations
            ]
            yield pa.Table.from_pylist(rows, schema=_CANDIDATES)
            if offset + _BATCH >= page.total:
                break


def _candidate_row(run: RunRecord, candidate: CandidateRecord, job_digest: str) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "run_name": run.name,
        "run_created_at": run.created_at,
        "position": candidate.position,
        "candidate": candidate.name,
        "is_base": candidate.is_base,
        "layers": candidate.layers,
        "parameters": candidate.parameters,
        "recipe": candidate.recipe,
        "job_digest": job_digest,
    }


def _benchmark_tables(store: Store, digests: Sequence[str]) -> Iterator[pa.Table]:
    for batch in _batches(digests):
        evaluations = store.evaluations(batch)
        protocols = store.protocols(evaluation.protocol_digest for evaluation in evaluations.values())
        rows = [
            _benchmark_row(evaluation, protocols[evaluation.protocol_digest])
            for evaluation in evaluations.values()
        ]
        yield pa.Table.from_pylist(rows, schema=_BENCHMARKS)


def _benchmark_row(evaluation: EvaluationRecord, protocol: Protocol) -> dict[str, Any]:
    result = evaluation.result
    return {
        **_identity(evaluation),
        "engine": protocol.engine.kind,
        "engine_version": protocol.engine.version,
        "dtype": protocol.engine.dtype,
        "device": protocol.engine.device,
        "execution": protocol.engine.execution,
        "attention_backend": protocol.engine.attention_backend,
        "batch_invariant": protocol.engine.batch_invariant,
        "chat_template": protocol.settings.chat_template,
        "limit": protocol.settings.limit,
        **result.model_dump(exclude={"benchmark", "alarms"}),
        "alarms": [alarm.kind for alarm in result.alarms],
        "duration_s": evaluation.duration_s,
        "host": evaluation.hardware.host,
        "ended_at": evaluation.ended_at,
    }


def _score_tables(store: Store, digests: Sequence[str]) -> Iterator[pa.Table]:
    for batch in _batches(digests):
        evaluations = store.evaluations(batch)
        rows = [
            {
                **_identity(evaluations[digest]),
                **score.model_dump(exclude={"benchmark", "alarms"}),
                "alarms": [alarm.kind for alarm in score.alarms],
            }
            for digest, scores in store.scores(batch).items()
            for score in scores
        ]
        yield pa.Table.from_pylist(rows, schema=_SCORES)


def _identity(evaluation: EvaluationRecord) -> dict[str, Any]:
    return {
        "job_digest": evaluation.job_digest,
        "suite": evaluation.suite,
        "benchmark": evaluation.result.benchmark,
        "weights_digest": evaluation.weights_digest,
        "layer_path": None if evaluation.layer_path is None else source_layers_of(evaluation.layer_path),
        "visits": _visits(evaluation.layer_path),
        "protocol_digest": evaluation.protocol_digest,
    }


def _visits(path: Layers | None) -> str | None:
    """The path's text, if some visit is damped or of one half; null where `layer_path` says all."""
    if path is None or is_whole_path(path):
        return None
    return LayerPath.of_validated(path, 0).canonical


def _require_samples(store: Store, home: Path, digests: Sequence[str]) -> None:
    """Raise StoreError if samples files are missing, before anything is written."""
    missing = [
        evaluation.samples_path
        for batch in _batches(digests)
        for evaluation in store.evaluations(batch).values()
        if not (home / evaluation.samples_path).is_file()
    ]
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(digests)} samples files are missing, first {home / missing[0]}; "
            "point MERGEBOARD_HOME at the folder that the store's evaluations were written to."
        )


def _sample_tables(store: Store, home: Path, digests: Sequence[str]) -> Iterator[pa.Table]:
    for batch in _batches(digests):
        for digest, evaluation in store.evaluations(batch).items():
            samples = stored_samples(digest, evaluation, home).table()
            yield samples.add_column(
                0, _SAMPLES.field("job_digest"), pa.array([digest] * len(samples), pa.string())
            )
