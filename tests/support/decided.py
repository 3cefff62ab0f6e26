"""Plans whose evaluations may stop early, and answers by which they do: statistics without an engine."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from evals.early import EarlyEvaluation
from evals.stats.document_order import document_order
from evals.stats.paired import Documents
from evals.stats.resample import Floats, SubsetDocuments
from evals.stats.sequence import LookSequence
from evals.stats.stopping import Decision, look, prefix
from orchestrator.plan.decide import decided
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.plan.sweep import DecideEntry
from orchestrator.store.records import EarlyOutcome, EvalOutcome
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import HARDWARE, eval_outcome

N = 200
ENTRY = DecideEntry(error_rate=0.2, smallest_share=0.1, slice=0.1)


def decided_plan(jobs: int = 6, entry: DecideEntry = ENTRY, name: str = "decided") -> Plan:
    plan = stand_in_plan(jobs, name=name)
    base = plan.candidates[0].name
    marked = decided([(p.candidate == base, p.job) for p in plan.evals], entry)
    evals = tuple(p.model_copy(update={"job": job}) for p, job in zip(plan.evals, marked, strict=True))
    sweep = plan.sweep.model_copy(update={"decide": entry})
    return plan.model_copy(update={"evals": evals, "sweep": sweep})


def answers(job: EvalJob) -> Floats:
    """Right or wrong on each document: the base knows 70 %, its first layer path 20 %, the others what the base knows."""
    rng = np.random.default_rng(7)
    base = rng.random(N) < 0.7
    if job.layer_path is not None and len(job.layer_path) == 13:
        return (rng.random(N) < 0.2).astype(float)
    return base.astype(float)


def sequence(job: EvalJob) -> LookSequence:
    """The looks that a worker would take; a function of the documents alone."""
    assert job.decide is not None
    plan = job.decide.plan
    base = answers(job.model_copy(update={"layer_path": None}))
    values = np.stack([base, answers(job)], axis=1)[:, :, None]
    docs = Documents((SubsetDocuments("s", 0.0, values, np.ones((N, 1))),), pooled=True)
    order = document_order([("s", n) for n in range(N)], plan.order_seed)
    looks = []
    for n in plan.looks(N):
        looks.append(look(prefix(docs, order[:n]), N, plan.rule, n_draws=500))
        if looks[-1].decision is not Decision.OPEN:
            break
    return LookSequence(plan=plan, n_whole=N, looks=tuple(looks))


def asked_until_decided(job: EvalJob) -> EvalOutcome | EarlyOutcome:
    looks = sequence(job)
    if not looks.early:
        return eval_outcome(job).model_copy(update={"sequence": looks})
    early = EarlyEvaluation(
        suite=job.suite,
        benchmark=job.benchmark,
        title=job.benchmark.upper(),
        benchmark_digest=job.benchmark_digest,
        engine=job.engine,
        settings=job.settings,
        sequence=looks,
        n_requests=looks.n,
        n_replayed=0,
        duration_s=looks.n / 10,
    )
    now = datetime.now(UTC)
    return EarlyOutcome(early=early, hardware=HARDWARE, started_at=now, ended_at=now)
