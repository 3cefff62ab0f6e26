"""Runs that grow: jobs that are added while they run."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from orchestrator.store.base import StorePart
from orchestrator.store.records import PlannedJob, RunLease
from orchestrator.store.runs import JobRows, holds, insert_new, locked
from orchestrator.store.tables import candidate_jobs, jobs, protocols, run_jobs


class Growing(StorePart):
    """Methods of the store for runs that grow."""

    def add_jobs(self, lease: RunLease, planned: Sequence[PlannedJob]) -> bool:
        """Add jobs of stored candidates to a run that grows; False, and nothing is stored, if its lease is lost. Idempotent."""

        def work(connection: sa.Connection) -> bool:
            if not holds(locked(connection, lease.run_id), lease):
                return False
            of_run = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == lease.run_id)
            there = set(connection.scalars(of_run))
            new = [item for item in planned if item.job.digest not in there]
            rows = JobRows(lease.run_id, new, first=len(there))
            insert_new(connection, protocols, rows.protocols)
            insert_new(connection, jobs, rows.jobs)
            insert_new(connection, run_jobs, rows.run_jobs)
            insert_new(connection, candidate_jobs, rows.candidate_jobs)
            return True

        return self._database.write(work)
