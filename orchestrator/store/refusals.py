"""Refusals of live layer paths: what engines said of checkpoints, so that no run asks again."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.job import EvalJob
from orchestrator.provenance import Provenance
from orchestrator.store.base import StorePart
from orchestrator.store.joins import planned_jobs, protocols_of
from orchestrator.store.records import FailureClass, RunRecord
from orchestrator.store.rows import AnyRow, among, job_of
from orchestrator.store.tables import attempts, jobs, run_jobs, runs
from recipes.layer_visit import Layers

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
        return self._database.read(lambda connection: _refusals(connection, weights, code, _IS_REFUSED))

    def earlier_refusals(self, run: RunRecord) -> tuple[LiveRefusal, ...]:
        """Refusals in other runs that hold for the layer paths of this one too, until it ended, oldest first.

        Its driver reads them in place of asking the engine again, so that the run has no failed attempt of its own.
        """
        others = _IS_REFUSED & (attempts.c.run_id != run.id)
        if run.ended_at is not None:
            others &= attempts.c.ended_at <= run.ended_at

        def work(connection: sa.Connection) -> tuple[LiveRefusal, ...]:
            # Most stores hold no refusal, and the jobs need not be read.
            if not connection.scalar(sa.select(sa.exists().where(others))):
                return ()
            rows = connection.execute(planned_jobs(run.id).where(run_jobs.c.live_layers.is_not(None))).all()
            paths = _live_paths(connection, rows)
            weights = {digest for opened, of_path, _ in paths for digest in (opened, of_path)}
            asked = {(opened, engine): set[Layers]() for opened, _, engine in paths}
            for (opened, _, engine), layers in paths.items():
                asked[opened, engine] |= layers
            return tuple(
                refusal
                for refusal in _refusals(connection, weights, run.provenance, others)
                if (key := _engine_of(refusal.job)) in asked
                and (
                    refusal.failure_class is FailureClass.LIVE_REFUSED
                    or refusal.job.live_layers in asked[key]
                )
            )

        return self._database.read(work)


_IS_REFUSED = attempts.c.failure_class.in_(REFUSALS)


def _refusals(
    connection: sa.Connection, weights: Collection[str], code: Provenance, which: sa.ColumnElement[bool]
) -> tuple[LiveRefusal, ...]:
    """Those refused attempts at evaluations of these weights that the same version and commit began, oldest first."""
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
        .where(which, among(connection, jobs.c.weights_digest, weights))
        .order_by(attempts.c.id)
    )
    rows = connection.execute(query).all()
    specs = protocols_of(connection, {row.protocol_digest for row in rows})
    same = {text: _same_code(text, code) for text in {row.provenance for row in rows}}
    refused = ((job_of(row, specs), row) for row in rows if same[row.provenance])
    return tuple(
        LiveRefusal(job=job, failure_class=row.failure_class, message=row.message or "")
        for job, row in refused
        if isinstance(job, EvalJob)
    )


def _live_paths(connection: sa.Connection, rows: Sequence[AnyRow]) -> dict[tuple[str, str, str], set[Layers]]:
    """The live layer paths of a run's jobs, by the digests of the opened weights, of the path's own and of the engine."""
    specs = protocols_of(connection, {row.protocol_digest for row in rows})
    keys: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    paths: dict[tuple[str, str, str], set[Layers]] = {}
    for row in rows:
        # Thousands of paths differ in nothing but their layers; a job is made of one of them.
        alike = row.weights_digest, row.protocol_digest, row.spec
        if alike not in keys:
            job = job_of(row, specs)
            assert isinstance(job, EvalJob)
            opened, engine = _engine_of(job)
            keys[alike] = opened, row.weights_digest, engine
        paths.setdefault(keys[alike], set()).add(row.live_layers)
    return paths


def _engine_of(job: EvalJob) -> tuple[str, str]:
    return job.opened_digest, job.engine.digest_without_length


def _same_code(provenance: str, code: Provenance) -> bool:
    theirs = Provenance.model_validate_json(provenance)
    name = "mergeboard"
    return (theirs.versions.get(name), theirs.commit) == (code.versions.get(name), code.commit)
