"""The order in which a run starts its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.plan.decide import Evidence, benchmark_ranks
from orchestrator.plan.durations import Durations
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.plan import Plan


def start_order(
    plan: Plan,
    jobs: Mapping[str, BuildJob | EvalJob],
    durations: Durations,
    evidence: Sequence[Evidence],
) -> list[str]:
    """Digests of the jobs: builds, the base, then longest first, since a long last job delays the end.

    Evaluations that may stop early come before others, the cheapest evidence first.
    """
    base_jobs = {e.job.digest for e in plan.evals if e.candidate == plan.candidates[0].name}
    ranks = benchmark_ranks(evidence, plan.sweep.decide.first if plan.sweep.decide else ())

    def rank(digest: str) -> tuple[int, float, float]:
        job = jobs[digest]
        if isinstance(job, BuildJob):
            return 0, 0.0, 0.0
        place = ranks.get((job.suite, job.benchmark), len(ranks))
        if digest in base_jobs:
            return 1, place, 0.0
        return (2, place, 0.0) if job.decide is not None else (3, 0.0, -(durations.seconds(job) or 0.0))

    return sorted(jobs, key=rank)
