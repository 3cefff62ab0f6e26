"""Runs: creation, the lease of the driver, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.display.text_safety import unstorable
from orchestrator.errors import RunError, StoreError
from orchestrator.plan.job import EvalJob
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.owners import owner_is_gone
from orchestrator.store.records import (
    ENDED,
    AttemptState,
    CandidateRecord,
    NewRun,
    PlannedJob,
    Protocol,
    Renewal,
    RunLease,
    RunRecord,
    RunState,
    job_kind,
)
from orchestrator.store.rows import AnyRow, Row, among, candidate_row, run_record, run_spec
from orchestrator.store.tables import attempts, candidate_jobs, candidates, jobs, protocols, run_jobs, runs

# Up to this number of rows a plain insert is faster on PostgreSQL than building arrays.
_FEW_ROWS = 16


class Runs(StorePart):
    """Methods of the store for runs."""

    def create_run(
        self,
        run: NewRun,
        candidates_: Sequence[CandidateRecord],
        planned: Sequence[PlannedJob],
        *,
        owner: str | None = None,
    ) -> None:
        """Store a run with its candidates and jobs in one transaction; with an owner, also its lease.

        Jobs that exist are shared. Storing the same run again changes nothing. Names with a character that no
        database can store raise StoreError.
        """
        _require_storable(run, candidates_)
        rows = JobRows(run.id, planned)
        unknown = rows.needs - set(rows.position)
        if unknown:
            raise StoreError(
                f"The run {run.name} needs jobs that it does not hold: {', '.join(sorted(unknown)[:3])}."
            )

        def work(connection: sa.Connection) -> None:
            now = clock(connection)
            values = run.model_dump(exclude={"provenance"}) | {
                "provenance": run.provenance.model_dump_json(),
                "created_at": now,
                "started_at": now if owner else None,
                "lease_owner": owner,
                "lease_token": 1 if owner else 0,
                "lease_expires_at": self._expiry(now) if owner else None,
            }
            if connection.scalar(_new(connection, runs).values(values).returning(runs.c.id)) is None:
                return
            fill(connection, candidates, [candidate_row(run.id, candidate) for candidate in candidates_])
            insert_new(connection, protocols, rows.protocols)
            insert_new(connection, jobs, rows.jobs)
            fill(connection, run_jobs, rows.run_jobs)
            fill(connection, candidate_jobs, rows.candidate_jobs)

        self._database.write(work)

    def take_lease(
        self, run_id: str, owner: str, *, instead_of: str | None = None, reopen: bool = False
    ) -> RunLease | None:
        """Become the driver of a run without a valid lease; None if another driver has one.

        `instead_of` names an owner that is known to be dead, whose lease need not expire. `reopen` also takes
        a run that has ended. The running attempts of an earlier driver become lost.
        """

        def work(connection: sa.Connection) -> RunLease | None:
            row = locked(connection, run_id)
            now = clock(connection)
            is_owner = row.lease_owner == owner
            free = row.lease_owner in (None, instead_of) or row.lease_expires_at <= now
            over = row.ended_as is not None or (row.cancel_requested_at is not None and not is_owner)
            if not (is_owner or free) or (over and not reopen):
                return None
            token = row.lease_token if is_owner else row.lease_token + 1
            values: Row = {"lease_owner": owner, "lease_token": token, "lease_expires_at": self._expiry(now)}
            if row.started_at is None:
                values["started_at"] = now
            if over:
                values |= {"ended_as": None, "ended_at": None, "cancel_requested_at": None}
            connection.execute(runs.update().where(runs.c.id == run_id).values(values))
            if not is_owner:
                _orphan(
                    connection, run_id, now, AttemptState.LOST, "The process that drove the run was lost."
                )
            return RunLease(run_id=run_id, owner=owner, token=token)

        return self._database.write(work)

    def renew(self, lease: RunLease, attempt_ids: Sequence[str] = ()) -> Renewal:
        """Renew a driver's lease and the heartbeats of its attempts."""

        def work(connection: sa.Connection) -> Renewal:
            row = locked(connection, lease.run_id)
            if not holds(row, lease):
                return Renewal(held=False, cancel_requested=row.cancel_requested_at is not None, lost=())
            now = clock(connection)
            values = {"lease_expires_at": self._expiry(now)}
            connection.execute(runs.update().where(runs.c.id == lease.run_id).values(values))
            alive: set[str] = set()
            if attempt_ids:
                running = among(connection, attempts.c.id, attempt_ids) & (
                    attempts.c.state == AttemptState.RUNNING
                )
                beat = attempts.update().where(running).values(heartbeat_at=now).returning(attempts.c.id)
                alive.update(connection.scalars(beat))
            lost = tuple(attempt for attempt in attempt_ids if attempt not in alive)
            return Renewal(held=True, cancel_requested=row.cancel_requested_at is not None, lost=lost)

        return self._database.write(work)

    def release_lease(self, lease: RunLease) -> bool:
        """Release a run without ending it, so that another driver can take it at once."""

        def work(connection: sa.Connection) -> bool:
            row = locked(connection, lease.run_id)
            if not holds(row, lease):
                return False
            now = clock(connection)
            _orphan(
                connection,
                lease.run_id,
                now,
                AttemptState.LOST,
                "The process that drove the run gave it back.",
            )
            values = {"lease_owner": None, "lease_expires_at": None}
            connection.execute(runs.update().where(runs.c.id == lease.run_id).values(values))
            return True

        return self._database.write(work)

    def finish_run(self, lease: RunLease, state: RunState) -> bool:
        """End a run as done, failed or cancelled and release its lease; False if the lease is lost."""
        if state not in ENDED:
            raise ValueError(f"a run cannot end as {state}")

        def work(connection: sa.Connection) -> bool:
            row = locked(connection, lease.run_id)
            if row.ended_as == state and row.lease_owner is None and row.lease_token == lease.token:
                return True
            if not holds(row, lease):
                return False
            _end(connection, lease.run_id, state)
            return True

        return self._database.write(work)

    def cancel_run(self, run_id: str) -> RunRecord:
        """Request the cancellation of a run. Its driver stops at its next renewal; without one it ends now.

        If the driver is dead, the run counts as cancelled when its lease expires.
        """

        def work(connection: sa.Connection) -> RunRecord:
            row = locked(connection, run_id)
            now = clock(connection)
            if row.ended_as is None:
                values = {"cancel_requested_at": row.cancel_requested_at or now}
                connection.execute(runs.update().where(runs.c.id == run_id).values(values))
                dead = row.lease_owner is not None and owner_is_gone(row.lease_owner)
                if dead or row.lease_expires_at is None or row.lease_expires_at <= now:
                    _end(connection, run_id, RunState.CANCELLED)
            return run_record(connection.execute(sa.select(runs).where(runs.c.id == run_id)).one(), now)

        return self._database.write(work)

    def run(self, run_id: str) -> RunRecord:
        """One run by its id; RunError if there is none."""

        def work(connection: sa.Connection) -> RunRecord:
            row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
            return run_record(row if row is not None else _unknown(run_id), clock(connection))

        return self._database.read(work)

    def runs(
        self,
        *,
        states: Sequence[RunState] = (),
        sweep_digest: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[RunRecord, ...]:
        """Runs, newest first, optionally only in the given states or of the given sweep."""

        def work(connection: sa.Connection) -> tuple[RunRecord, ...]:
            now = clock(connection)
            query = (
                sa.select(runs)
                .order_by(runs.c.created_at.desc(), runs.c.id.desc())
                .limit(limit)
                .offset(offset)
            )
            if sweep_digest is not None:
                query = query.where(runs.c.sweep_digest == sweep_digest)
            if states:
                query = query.where(sa.or_(*(_in_state(state, now) for state in states)))
            return tuple(run_record(row, now) for row in connection.execute(query))

        return self._database.read(work)

    def _expiry(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.lease_s)


class JobRows:
    """The rows of one run's jobs, sorted so that runs that share jobs cannot deadlock; `first` is the first position."""

    def __init__(self, run_id: str, planned: Sequence[PlannedJob], first: int = 0) -> None:
        self.position: dict[str, int] = {}
        self._first = first
        self.needs: set[str] = set()
        self.jobs: list[Row] = []
        self.run_jobs: list[Row] = []
        self.candidate_jobs: list[Row] = []
        self._protocols: dict[tuple[Any, ...], Row] = {}
        served: set[tuple[int, str]] = set()
        for item in planned:
            digest = item.job.digest
            served.update((candidate, digest) for candidate in item.candidates)
            if digest not in self.position:
                self.position[digest] = self._first + len(self.position)
                self._add(run_id, digest, item)
        self.candidate_jobs = [{"run_id": run_id, "candidate": c, "job_digest": d} for c, d in sorted(served)]
        self.jobs.sort(key=lambda row: str(row["digest"]))

    @property
    def protocols(self) -> list[Row]:
        """The distinct protocols of all evaluations."""
        return sorted(
            {row["digest"]: row for row in self._protocols.values()}.values(),
            key=lambda row: str(row["digest"]),
        )

    def _add(self, run_id: str, digest: str, item: PlannedJob) -> None:
        job = item.job
        self.needs.update(job.needs)
        row: Row = {"digest": digest, "kind": job_kind(job), "protocol_digest": None}
        row |= {"weights_digest": None, "layer_path": None}
        live = None
        if isinstance(job, EvalJob):
            row["protocol_digest"] = self._protocol(job)
            row |= {"weights_digest": job.weights_digest, "layer_path": job.layer_path}
            live = job.live_layers
        self.jobs.append(row)
        position = self.position[digest]
        self.run_jobs.append(
            {
                "run_id": run_id,
                "job_digest": digest,
                "position": position,
                "spec": run_spec(job),
                "live_layers": live,
            }
        )

    def _protocol(self, job: EvalJob) -> str:
        """Digest of the job's protocol, computed once per distinct protocol."""
        # Keyed by object identity: jobs of a plan share nested records, which are slow to hash per job.
        values = (getattr(job, name) for name in Protocol.model_fields)
        key = tuple(id(value) if isinstance(value, BaseModel) else value for value in values)
        if key not in self._protocols:
            protocol = Protocol.of(job)
            self._protocols[key] = {
                "digest": protocol.digest,
                "suite": protocol.suite,
                "benchmark": protocol.benchmark,
                "engine_digest": protocol.engine.digest,
                "spec": protocol.model_dump_json(),
            }
        return str(self._protocols[key]["digest"])


def holds(row: AnyRow, lease: RunLease) -> bool:
    """Whether a run, whose row is locked, is still driven by this lease."""
    return row.ended_as is None and row.lease_owner == lease.owner and row.lease_token == lease.token


def fill(connection: sa.Connection, table: sa.Table, rows: list[Row]) -> None:
    """Insert rows that cannot exist yet."""
    if len(rows) > _FEW_ROWS and connection.dialect.name == "postgresql":
        connection.execute(_from_arrays(table, rows))
    elif rows:
        connection.execute(_insert_into(table), rows)


@lru_cache
def _insert_into(table: sa.Table) -> sa.Insert:
    return table.insert()


def insert_new(connection: sa.Connection, table: sa.Table, rows: list[Row]) -> None:
    """Insert the rows whose key does not exist yet."""
    if rows and connection.dialect.name == "postgresql":
        connection.execute(_from_arrays(table, rows).on_conflict_do_nothing())
    elif rows:
        connection.execute(_new(connection, table), rows)


def _new(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An insert statement that ignores existing rows."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def _from_arrays(table: sa.Table, rows: list[Row]) -> postgresql.Insert:
    """All rows in one statement with one array per column; single inserts of a large plan take seconds."""
    names = list(rows[0])
    arrays = [
        sa.cast([row[name] for row in rows], postgresql.ARRAY(table.c[name].type, dimensions=1))
        for name in names
    ]
    rows_table = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    return postgresql.insert(table).from_select(names, sa.select(rows_table))


def _require_storable(run: NewRun, candidates_: Sequence[CandidateRecord]) -> None:
    texts = [("the sweep's name", run.name), ("the sweep file", run.sweep)]
    for candidate in candidates_:
        texts += [
            (f"the name of candidate {candidate.position}", candidate.name),
            (f"the weights of candidate {candidate.position}", candidate.weights_digest),
            (f"the recipe of candidate {candidate.position}", candidate.recipe or ""),
        ]
    for where, text in texts:
        character = unstorable(text)
        if character is not None:
            shown = run.name.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")
            raise StoreError(
                f"The run {shown} cannot be stored: {where} holds a character, {character}, that no database can store; "
                "write it without that character."
            )


def locked(connection: sa.Connection, run_id: str) -> AnyRow:
    """The run's row, locked until this transaction ends."""
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    return row if row is not None else _unknown(run_id)


def _unknown(run_id: str) -> AnyRow:
    raise RunError(f"There is no run {run_id} in this store; `mergeboard status` lists the runs.")


def _in_state(state: RunState, now: datetime) -> sa.ColumnElement[bool]:
    """SQL condition for the state that `rows.run_record` derives."""
    open_ = runs.c.ended_as.is_(None)
    live = open_ & sa.func.coalesce(runs.c.lease_expires_at > now, sa.false())
    idle = open_ & ~sa.func.coalesce(runs.c.lease_expires_at > now, sa.false())
    cancelled = runs.c.cancel_requested_at.is_not(None)
    if state is RunState.RUNNING:
        return live
    if state is RunState.CANCELLED:
        return (runs.c.ended_as == state) | (idle & cancelled)
    if state in ENDED:
        return runs.c.ended_as == state
    started = runs.c.started_at.is_not(None) if state is RunState.INTERRUPTED else runs.c.started_at.is_(None)
    return idle & ~cancelled & started


def _end(connection: sa.Connection, run_id: str, state: RunState) -> None:
    now = clock(connection)
    attempt_state = AttemptState.CANCELLED if state is RunState.CANCELLED else AttemptState.LOST
    _orphan(connection, run_id, now, attempt_state, "The run ended first.")
    values = {"ended_as": state, "ended_at": now, "lease_owner": None, "lease_expires_at": None}
    connection.execute(runs.update().where(runs.c.id == run_id).values(values))


def _orphan(connection: sa.Connection, run_id: str, now: datetime, state: AttemptState, message: str) -> None:
    """Close the running attempts of a run that has no driver any more."""
    running = (attempts.c.run_id == run_id) & (attempts.c.state == AttemptState.RUNNING)
    connection.execute(attempts.update().where(running).values(state=state, ended_at=now, message=message))
