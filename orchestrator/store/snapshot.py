"""Content of a store without times, attempts, ids and machines, to compare two histories."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from orchestrator.store.tables import (
    builds,
    candidate_jobs,
    candidates,
    cards,
    claims,
    evaluations,
    imported_results,
    imports,
    jobs,
    protocols,
    reproductions,
    run_jobs,
    runs,
    scores,
    sequences,
    verdicts,
)

# Columns about when, where or in how many pieces a result was computed.
_CIRCUMSTANCES = {
    "id",
    "run_id",
    "provenance",
    "created_at",
    "started_at",
    "ended_at",
    "cancel_requested_at",
    "lease_owner",
    "lease_token",
    "lease_expires_at",
    "n_replayed",
    "duration_s",
    "imported_at",
    "made_at",
    "reproduction_id",
}


def snapshot(connection: sa.Connection) -> str:
    """Canonical JSON of runs in the order of their ids, and of jobs and their results by digest."""
    order = sa.select(runs.c.id).order_by(runs.c.id)
    content = {
        "runs": [_run(connection, run_id) for run_id in connection.scalars(order).all()],
        "protocols": _all(connection, protocols, "digest"),
        "jobs": _all(connection, jobs, "digest"),
        "builds": _all(connection, builds, "job_digest"),
        "evaluations": _all(connection, evaluations, "job_digest"),
        "scores": _all(connection, scores, "job_digest", "position"),
        "imports": _all(connection, imports, "id"),
        "imported_results": _all(connection, imported_results, "import_id", "position"),
        "cards": _all(connection, cards, "id"),
        "claims": _all(connection, claims, "card_id", "position"),
        "reproductions": _all(connection, reproductions, "card_id", "id"),
        "verdicts": _all(connection, verdicts, "reproduction_id", "position"),
    }
    if looks := _all(connection, sequences, "job_digest"):
        content["sequences"] = looks
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False)


def _run(connection: sa.Connection, run_id: str) -> dict[str, Any]:
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one()
    parts = {"candidates": (candidates, "position"), "jobs": (run_jobs, "position")}
    return {
        **_plain(row),
        **{
            name: _rows(connection, sa.select(table).where(table.c.run_id == run_id).order_by(table.c[key]))
            for name, (table, key) in parts.items()
        },
        "candidate_jobs": _rows(
            connection,
            sa.select(candidate_jobs)
            .where(candidate_jobs.c.run_id == run_id)
            .order_by(candidate_jobs.c.candidate, candidate_jobs.c.job_digest),
        ),
    }


def _all(connection: sa.Connection, table: sa.Table, *keys: str) -> list[dict[str, Any]]:
    return _rows(connection, sa.select(table).order_by(*(table.c[key] for key in keys)))


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    return [_plain(row) for row in connection.execute(query)]


def _plain(row: sa.Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name not in _CIRCUMSTANCES}
