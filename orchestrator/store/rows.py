"""Converts records to rows and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects import postgresql

from evals.engine import EngineTuning
from evals.scores import Alarm, BenchmarkScore, Score
from orchestrator.errors import StoreError
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob, LiveMerge, job_from_json
from orchestrator.provenance import Hardware, Provenance
from orchestrator.store.leaderboard import EvaluationRecord
from orchestrator.store.records import (
    AttemptRecord,
    BuildOutcome,
    CandidateRecord,
    EvalOutcome,
    Protocol,
    RunRecord,
    RunState,
)

Part = TypeVar("Part")

Row = dict[str, Any]
AnyRow = sa.Row[*tuple[Any, ...]]
_CANDIDATE = tuple(CandidateRecord.model_fields)
_ATTEMPT = tuple(AttemptRecord.model_fields)
_SCORE = tuple(set(Score.model_fields) - {"benchmark", "alarms"})
_RESULT = tuple(set(BenchmarkScore.model_fields) - {"alarms"})
_EVALUATION = tuple(set(EvaluationRecord.model_fields) - {"result", "hardware"})
_ALARMS: TypeAdapter[tuple[Alarm, ...]] = TypeAdapter(tuple[Alarm, ...])


def among(
    connection: sa.Connection, column: sa.ColumnElement[str], values: Iterable[str]
) -> sa.ColumnElement[bool]:
    """Condition that a column is one of the values, with one bound parameter for any number."""
    items = list(values)
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.cast(items, postgresql.ARRAY(sa.Text)))
    json_items = sa.func.json_each(json.dumps(items)).table_valued("value")
    return column.in_(sa.select(json_items.c.value))


def run_record(row: AnyRow, now: datetime) -> RunRecord:
    """A run from its row, with the state derived from its end and its lease."""
    return RunRecord(
        id=row.id,
        name=row.name,
        sweep=row.sweep,
        sweep_digest=row.sweep_digest,
        provenance=Provenance.model_validate_json(row.provenance),
        plan=row.plan,
        state=_state(row, now),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        cancel_requested_at=row.cancel_requested_at,
        owner=row.lease_owner,
        lease_expires_at=row.lease_expires_at,
    )


def _state(row: AnyRow, now: datetime) -> RunState:
    if row.ended_as is not None:
        return RunState(row.ended_as)
    if row.lease_expires_at is not None and row.lease_expires_at > now:
        return RunState.RUNNING
    if row.cancel_requested_at is not None:
        return RunState.CANCELLED
    return RunState.WAITING if row.started_at is None else RunState.INTERRUPTED


def candidate_row(run_id: str, candidate: CandidateRecord) -> Row:
    """A candidate as a row."""
    return {"run_id": run_id, **{name: getattr(candidate, name) for name in _CANDIDATE}}


def candidate_record(row: AnyRow) -> CandidateRecord:
    """A candidate from a row with at least its columns."""
    return CandidateRecord(**{name: getattr(row, name) for name in _CANDIDATE})


def attempt_record(row: AnyRow) -> AttemptRecord:
    """An attempt from its row."""
    return AttemptRecord(**{name: getattr(row, name) for name in _ATTEMPT})


def run_spec(job: BuildJob | EvalJob) -> str:
    """JSON of a run's part of a job: a whole build, or place, tuning and live merge of an evaluation."""
    if isinstance(job, BuildJob):
        return job.model_dump_json()
    return _eval_spec(job.place, job.tuning, job.live_merge)


@lru_cache(maxsize=1024)
def _eval_spec(place: CheckpointPlace, tuning: EngineTuning, live_merge: LiveMerge | None) -> str:
    whole = {
        "place": place.model_dump(exclude_defaults=True),
        "tuning": tuning.model_dump(exclude_defaults=True),
        "live_merge": live_merge.model_dump(mode="json") if live_merge else None,
    }
    return json.dumps({name: part for name, part in whole.items() if part})


@lru_cache(maxsize=256)
def protocol_of(text: str) -> Protocol:
    """A protocol from its row's JSON; cached, since the jobs of a run share a few."""
    return Protocol.model_validate_json(text)


def stored_part(parts: Mapping[str, Part], digest: str, name: str) -> Part:
    """The part of a result from another table; StoreError if its rows are missing."""
    if digest not in parts:
        raise StoreError(
            f"The store lacks the {name} under {digest}: its rows were changed by something else. Restore it from a backup, "
            "or measure again in a new store."
        )
    return parts[digest]


def job_of(row: AnyRow, protocols: dict[str, Protocol]) -> BuildJob | EvalJob:
    """A job from its identity and one run's part of it."""
    if row.protocol_digest is None:
        return job_from_json(row.spec)
    protocol = stored_part(protocols, row.protocol_digest, "protocol")
    return EvalJob(
        weights_digest=row.weights_digest,
        layer_path=row.layer_path,
        live_layers=row.live_layers,
        engine=protocol.engine,
        **protocol.identity_fields(),
        **json.loads(row.spec),
    )


def outcome_row(job_digest: str, attempt_id: str, outcome: BuildOutcome | EvalOutcome, now: datetime) -> Row:
    """Row of the fields that all outcomes share."""
    return {
        "job_digest": job_digest,
        "attempt_id": attempt_id,
        "accepted_at": now,
        "started_at": outcome.started_at,
        "ended_at": outcome.ended_at,
        "hardware": outcome.hardware.model_dump_json(),
    }


def build_row(job_digest: str, outcome: BuildOutcome) -> Row:
    """Row of the fields of a build."""
    return {
        "job_digest": job_digest,
        "path": outcome.path,
        "size_bytes": outcome.size_bytes,
        "parameters": outcome.parameters,
        "layers": outcome.layers,
    }


def evaluation_row(job_digest: str, outcome: EvalOutcome) -> Row:
    """Row of the fields of an evaluation."""
    result = outcome.evaluation.result
    return {
        "job_digest": job_digest,
        **result.model_dump(exclude={"benchmark", "alarms"}),
        "alarms": _alarms_text(result.alarms),
        "samples_path": outcome.samples_path,
        "samples_sha256": outcome.samples_sha256,
        "n_requests": outcome.evaluation.n_requests,
        "n_replayed": outcome.evaluation.n_replayed,
        "duration_s": outcome.evaluation.duration_s,
    }


def score_rows(job_digest: str, scores: Sequence[Score]) -> list[Row]:
    """Rows of the scores of one evaluation, in order."""
    return [
        {
            "job_digest": job_digest,
            "position": position,
            **score.model_dump(exclude={"benchmark", "alarms", "stderr"}),
            "stderr": score.stderr if score.stderr is not None and math.isfinite(score.stderr) else None,
            "alarms": _alarms_text(score.alarms),
        }
        for position, score in enumerate(scores)
    ]


def score_record(row: AnyRow, benchmark: str) -> Score:
    """A score from its row."""
    return Score(
        benchmark=benchmark, alarms=_alarms(row.alarms), **{name: getattr(row, name) for name in _SCORE}
    )


def benchmark_score(row: AnyRow) -> BenchmarkScore:
    """A benchmark's result from a row of evaluations joined with its protocol's benchmark."""
    return BenchmarkScore(alarms=_alarms(row.alarms), **{name: getattr(row, name) for name in _RESULT})


def evaluation_record(row: AnyRow) -> EvaluationRecord:
    """An evaluation from a row of `joins.EVALUATION_COLUMNS`."""
    return EvaluationRecord(
        result=benchmark_score(row),
        hardware=hardware_record(row.hardware),
        **{name: getattr(row, name) for name in _EVALUATION},
    )


def _alarms_text(alarms: tuple[Alarm, ...]) -> str | None:
    return _ALARMS.dump_json(alarms).decode() if alarms else None


@lru_cache(maxsize=1024)
def hardware_record(text: str) -> Hardware:
    """A machine from its JSON; cached, since few machines run many jobs."""
    return Hardware.model_validate_json(text)


@lru_cache(maxsize=1024)
def _alarms(text: str | None) -> tuple[Alarm, ...]:
    return _ALARMS.validate_json(text) if text else ()
