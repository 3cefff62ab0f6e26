"""The order of work of a run that stops when it is decided: the benchmarks with the most information per second first."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

from pydantic import ValidationError

from orchestrator.compare.comparison import Comparison
from orchestrator.plan.decide import BenchmarkName, Evidence, by_information
from orchestrator.plan.durations import Durations, documents_of
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.store import Store

# Latest kept comparisons and sequences that are read.
_LATEST = 200


def evidence_of(plan: Plan, store: Store | None, durations: Durations) -> list[Evidence]:
    """The benchmarks that may be decided early, by information per second; empty if there are none."""
    jobs = [p.job for p in plan.evals if p.job.decide is not None]
    variances = document_variances(store) if store is not None and jobs else {}
    return by_information(jobs, durations.seconds, _documents, variances)


def document_variances(store: Store) -> dict[BenchmarkName, float]:
    """Variance of one document's difference in points squared, by benchmark, from what the store compared last.

    The standard error of a difference on n documents, squared, times n; the mean over comparisons.
    """
    seen: dict[BenchmarkName, list[float]] = defaultdict(list)
    for suite, benchmark, n, stderr_points in store.latest_errors(_LATEST):
        seen[suite, benchmark].append(n * stderr_points**2)
    for spec in store.latest_comparisons(_LATEST):
        try:
            rows = Comparison.model_validate_json(spec).rows
        except ValidationError:
            continue  # of an earlier version
        for row in rows:
            if row.delta is not None and row.benchmark is not None:
                seen[row.suite, row.benchmark].append(row.delta.n * row.delta.stderr_points**2)
    return {name: mean for name, values in seen.items() if (mean := fmean(values)) > 0}


def _documents(job: EvalJob) -> int | None:
    return documents_of(job.suite, job.benchmark, job.settings.limit)
