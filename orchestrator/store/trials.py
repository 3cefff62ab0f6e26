"""Searches over merge parameters and their trials: what the optimiser knows is what is stored here."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from pydantic import ValidationError

from orchestrator.errors import StoreError
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.merge_report import MergeReport, SearchView
from orchestrator.store.records import CandidateRecord, PlannedJob, RunLease
from orchestrator.store.rows import AnyRow, Row, candidate_row
from orchestrator.store.runs import JobRows, holds, insert_new, locked
from orchestrator.store.tables import candidate_jobs, candidates, jobs, protocols, run_jobs, searches, trials
from orchestrator.store.trial_records import SearchRecord, TrialRecord, TrialState


class Trials(StorePart):
    """Methods of the store for searches over merge parameters."""

    def begin_search(self, run_id: str, text: str, folder: str, parallel: int) -> SearchRecord:
        """Store a search beside its run, unless it is there; returns what is stored."""

        def work(connection: sa.Connection) -> SearchRecord:
            row = {
                "parallel": parallel,
                "run_id": run_id,
                "text": text,
                "folder": folder,
                "created_at": clock(connection),
                "report": None,
            }
            insert_new(connection, searches, [row])
            stored = sa.select(searches).where(searches.c.run_id == run_id)
            return SearchRecord(**connection.execute(stored).one()._mapping)

        return self._database.write(work)

    def searches(self) -> tuple[SearchRecord, ...]:
        """All searches, newest first."""
        query = sa.select(searches).order_by(searches.c.created_at.desc(), searches.c.run_id)
        return self._database.read(
            lambda connection: tuple(SearchRecord(**row._mapping) for row in connection.execute(query))
        )

    def search(self, run_id: str) -> SearchRecord | None:
        """The search of a run; None if the run belongs to none."""
        query = sa.select(searches).where(searches.c.run_id == run_id)
        row = self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else SearchRecord(**row._mapping)

    def keep_search_report(self, run_id: str, report: str) -> None:
        """Store what a search ended with, as JSON; a later report replaces it."""
        change = searches.update().where(searches.c.run_id == run_id).values(report=report)
        self._database.write(lambda connection: connection.execute(change))

    def search_view(self, run_id: str) -> SearchView | None:
        """The search of a run, or that the run confirms, with its trials so far.

        None if the run belongs to no search, or another version wrote it.
        """
        named = sa.select(searches.c.run_id, searches.c.report).where(
            (searches.c.run_id == run_id) | searches.c.report.contains(run_id, autoescape=True)
        )
        rows = self._database.read(lambda connection: connection.execute(named).all())
        for row in rows:
            try:
                report = MergeReport.model_validate_json(row.report or "")
            except ValidationError:  # written by another version
                continue
            c = report.confirmation
            if run_id in (row.run_id, *((c.run_id, c.suite_run_id) if c is not None else ())):
                return SearchView(report=report, trials=self.trials(row.run_id))
        return None

    def trials(self, run_id: str) -> tuple[TrialRecord, ...]:
        """The trials of a search, by number."""
        query = sa.select(trials).where(trials.c.run_id == run_id).order_by(trials.c.number)
        return self._database.read(lambda connection: tuple(_trial(row) for row in connection.execute(query)))

    def add_trial(
        self,
        lease: RunLease,
        trial: TrialRecord,
        candidate: CandidateRecord | None = None,
        planned: Sequence[PlannedJob] = (),
    ) -> bool:
        """Store a new trial, and its candidate and jobs in the search's run, in one transaction.

        The positions of `candidate` and of the jobs are taken after those that the run has. False, and nothing is stored,
        if the lease of the run is lost. A trial that is there stays as it is.
        """

        def work(connection: sa.Connection) -> bool:
            if not holds(locked(connection, lease.run_id), lease):
                return False
            now = clock(connection)
            values = _values(trial) | {"run_id": lease.run_id, "created_at": now}
            values["ended_at"] = None if trial.state is TrialState.RUNNING else now
            there = sa.select(trials.c.number).where(
                trials.c.run_id == lease.run_id, trials.c.number == trial.number
            )
            if connection.execute(there).one_or_none() is not None:
                return True
            insert_new(connection, trials, [values])
            if candidate is not None:
                _extend(connection, lease.run_id, candidate, planned)
            return True

        return self._database.write(work)

    def extend_trial(self, lease: RunLease, trial: TrialRecord, planned: Sequence[PlannedJob]) -> bool:
        """Add the jobs of a trial's next step to its run; False if the lease of the run is lost. Idempotent."""

        def work(connection: sa.Connection) -> bool:
            if not holds(locked(connection, lease.run_id), lease):
                return False
            named = (candidates.c.run_id == lease.run_id) & (candidates.c.name == trial.candidate)
            position = connection.scalar(sa.select(candidates.c.position).where(named))
            if position is None:
                raise StoreError(f"The run {lease.run_id} has no candidate {trial.candidate}.")
            _add_jobs(connection, lease.run_id, position, planned)
            return True

        return self._database.write(work)

    def end_trial(self, lease: RunLease, trial: TrialRecord) -> bool:
        """Store what a running trial gave; False if the lease of the run is lost. Idempotent."""

        def work(connection: sa.Connection) -> bool:
            if not holds(locked(connection, lease.run_id), lease):
                return False
            running = (trials.c.run_id == lease.run_id) & (trials.c.number == trial.number)
            running &= trials.c.state == TrialState.RUNNING
            names = ("state", "objectives", "steps", "message", "cost_s")
            values = {name: _values(trial)[name] for name in names}
            connection.execute(trials.update().where(running).values(**values, ended_at=clock(connection)))
            return True

        return self._database.write(work)


def _extend(
    connection: sa.Connection, run_id: str, candidate: CandidateRecord, planned: Sequence[PlannedJob]
) -> None:
    """Add a candidate and its jobs to a run whose row is locked."""
    last = sa.select(sa.func.max(candidates.c.position)).where(candidates.c.run_id == run_id)
    position = 1 + (connection.scalar(last) or 0)
    insert_new(
        connection,
        candidates,
        [candidate_row(run_id, candidate.model_copy(update={"position": position}))],
    )
    _add_jobs(connection, run_id, position, planned)


def _add_jobs(connection: sa.Connection, run_id: str, position: int, planned: Sequence[PlannedJob]) -> None:
    """Add jobs of the candidate at `position` to a run whose row is locked."""
    end = sa.select(sa.func.max(run_jobs.c.position)).where(run_jobs.c.run_id == run_id)
    placed = [item.model_copy(update={"candidates": (position,)}) for item in planned]
    rows = JobRows(run_id, placed, first=1 + (connection.scalar(end) or 0))
    insert_new(connection, protocols, rows.protocols)
    insert_new(connection, jobs, rows.jobs)
    insert_new(connection, run_jobs, rows.run_jobs)
    insert_new(connection, candidate_jobs, rows.candidate_jobs)


def _values(trial: TrialRecord) -> Row:
    objectives = None if trial.objectives is None else json.dumps(list(trial.objectives))
    texts: Row = {"parameters": json.dumps(trial.parameters), "objectives": objectives}
    return trial.model_dump() | texts | {"steps": json.dumps(trial.steps) if trial.steps else None}


def _trial(row: AnyRow) -> TrialRecord:
    values = {name: row._mapping[name] for name in TrialRecord.model_fields}
    values["parameters"] = json.loads(row.parameters)
    values["objectives"] = None if row.objectives is None else tuple(json.loads(row.objectives))
    values["steps"] = tuple(map(tuple, json.loads(row.steps))) if row.steps else ()
    return TrialRecord(**values)
