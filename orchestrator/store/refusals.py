"""Refusals of live layer paths: what engines said of checkpoints, so that no run asks again."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.job import EvalJob
from orchestrator.provenance import Provenance
from orchestrator.store.base import StorePart
from orchestrator.store.joins import protocols_of
from orchestrator.store.records import FailureClass
from orchestrator.store.rows import among, job_of
from orchestrator.store.tables import attempts, jobs, run_jobs, runs

REFUSALS = (FailureClass.LIVE_REFUSED, FailureClass.PATH_REFUSED)
"""Classes of attempts in which an engine refused all layer paths of a checkpoint, or one path."""


class LiveRefusal(Frozen):
    """An attempt in which an engine refused to run a layer path live."""

    job: EvalJob = Field(description="The evaluation, as its run had planned it.")
    failure_class: FailureClass = Field(
        description="Whether it refused all layer paths of the checkpoint or this one."
    )
    message: str = Field(description="The refusal in one sentence.")


class Refusals(StorePart):
    """Methods of the store for refusals of live layer paths."""

    def live_refusals(self, weights: Collection[str], code: Provenance) -> tuple[LiveRefusal, ...]:
        """Refusals of evaluations of these weights, oldest first, in runs that the same version and commit of mergeboard began.

        Another version may check differently, so that its refusals do not count.
        """
        query = (
            sa.select(
                jobs,
                run_jobs.c.spec,
                run_jobs.c.live_layers,
                attempts.c.failure_class,
                attempts.c.message,
                runs.c.provenance,
            )
            .select_from(attempts)
            .join(jobs, jobs.c.digest == attempts.c.job_digest)
            .join(
                run_jobs,
                (run_jobs.c.job_digest == attempts.c.job_digest) & (run_jobs.c.run_id == attempts.c.run_id),
            )
            .join(runs, runs.c.id == attempts.c.run_id)
            .where(attempts.c.failure_class.in_(REFUSALS))
            .order_by(attempts.c.id)
        )

        def work(connection: sa.Connection) -> tuple[LiveRefusal, ...]:
            rows = connection.execute(query.where(among(connection, jobs.c.weights_digest, weights))).all()
            specs = protocols_of(connection, {row.protocol_digest for row in rows})
            same = {text: _same_code(text, code) for text in {row.provenance for row in rows}}
            refused = ((job_of(row, specs), row) for row in rows if same[row.provenance])
            return tuple(
                LiveRefusal(job=job, failure_class=row.failure_class, message=row.message or "")
                for job, row in refused
                if isinstance(job, EvalJob)
            )

        return self._database.read(work)


def _same_code(provenance: str, code: Provenance) -> bool:
    theirs = Provenance.model_validate_json(provenance)
    name = "mergeboard"
    return (theirs.versions.get(name), theirs.commit) == (code.versions.get(name), code.commit)
