"""Read a run's probe results from the store: each layer path's answers per item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from evals.engine import Frozen
from evals.layer_visits import VisitPath as Layers
from evals.probes import Measured, ProbeResult, get_probe
from evals.probes.evaluate import result_of_samples
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import RunError
from orchestrator.plan.job import EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome


class ProbesOfRun(Frozen):
    """The layer paths of a run with their probe results."""

    n_layers: int = Field(description="Number of layers of the base.")
    paths: tuple[Measured, ...] = Field(description="Paths with a result in every probe, including the base.")
    lacking: tuple[Layers, ...] = Field(
        description="Paths with a missing result, because an evaluation failed or is not done."
    )


def probes_of_run(store: Store, plan: Plan, home: Path) -> ProbesOfRun:
    """Read the results of a plan's probes. Raises SamplesError if a samples file is missing or altered."""
    base = plan.candidates[0]
    if base.layers is None:
        raise RunError(
            f"The number of layers of {plan.sweep.base} is not known; scan a checkpoint whose config tells it."
        )
    whole = tuple(range(base.layers))
    jobs = {planned.job.digest: planned.job for planned in plan.evals if planned.job.is_probe}
    outcomes = store.outcomes(jobs)
    names = tuple(dict.fromkeys(job.benchmark for job in jobs.values()))
    results_by_path: dict[Layers, dict[str, ProbeResult]] = {}
    for digest, job in jobs.items():
        by_probe = results_by_path.setdefault(job.layer_path or whole, {})
        outcome = outcomes.get(digest)
        if isinstance(outcome, EvalOutcome):
            by_probe[job.benchmark] = read_probe(job, outcome, home)
    measured = {
        path: tuple(by_probe[n] for n in names)
        for path, by_probe in results_by_path.items()
        if _is_complete(by_probe, names)
    }
    return ProbesOfRun(
        n_layers=base.layers,
        paths=tuple(Measured(layers=path, results=results) for path, results in measured.items()),
        lacking=tuple(path for path in results_by_path if path not in measured),
    )


def read_probe(job: EvalJob, outcome: EvalOutcome, home: Path) -> ProbeResult:
    """A probe's result from its stored samples. Raises SamplesError if they are missing or altered."""
    return result_of_samples(get_probe(job.benchmark), stored_samples(job.digest, outcome, home).read())


def _is_complete(results: Mapping[str, ProbeResult], names: tuple[str, ...]) -> bool:
    return all(name in results for name in names)
