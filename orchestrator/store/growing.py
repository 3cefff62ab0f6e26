"""Runs that grow: jobs that are added while they run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from orchestrator.plan.job import BuildJob
from orchestrator.store.base import StorePart
from orchestrator.store.records import PlannedJob, RunLease
from orchestrator.store.rows import among
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
            _add(connection, lease.run_id, new, first=len(there))
            return True

        return self._database.write(work)

    def add_builds(self, lease: RunLease, builds: Mapping[str, tuple[BuildJob, Collection[str]]]) -> bool:
        """Add builds, by digest, that evaluations of the run turned out to need, each with the digests of these evaluations.

        They serve the candidates of these evaluations. False, and nothing is stored, if the lease is lost. Idempotent.
        """

        def work(connection: sa.Connection) -> bool:
            if not holds(locked(connection, lease.run_id), lease):
                return False
            of_run = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == lease.run_id)
            there = set(connection.scalars(of_run))
            of_eval: dict[str, list[int]] = {}
            evals = {digest for _, needed_by in builds.values() for digest in needed_by}
            served = sa.select(candidate_jobs.c.job_digest, candidate_jobs.c.candidate).where(
                candidate_jobs.c.run_id == lease.run_id, among(connection, candidate_jobs.c.job_digest, evals)
            )
            for digest, candidate in connection.execute(served):
                of_eval.setdefault(digest, []).append(candidate)
            new = [
                PlannedJob(
                    job=job, candidates=tuple(sorted({c for d in needed_by for c in of_eval.get(d, ())}))
                )
                for digest, (job, needed_by) in builds.items()
                if digest not in there
            ]
            _add(connection, lease.run_id, new, first=len(there))
            return True

        return self._database.write(work)


def _add(connection: sa.Connection, run_id: str, new: Sequence[PlannedJob], first: int) -> None:
    """Insert jobs of stored candidates, whose positions in the run begin with `first`."""
    rows = JobRows(run_id, new, first=first)
    insert_new(connection, protocols, rows.protocols)
    insert_new(connection, jobs, rows.jobs)
    insert_new(connection, run_jobs, rows.run_jobs)
    insert_new(connection, candidate_jobs, rows.candidate_jobs)
